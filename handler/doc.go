// Package handler runs operators' programs on events, confined.
//
// # For authors of handlers
//
// A handler is a program of yours that the agent starts once for each event it
// is interested in. It is named in the agent's own settings, never over the
// network, by a spec in Serf's form:
//
//	[filter[,filter...]=]program
//
//	/etc/secgossip/handlers/all.sh               every event
//	user:deploy=/usr/local/bin/deploy            user events named deploy
//	member-join,member-leave=./membership.py     two kinds of member events
//	query:load=/etc/secgossip/handlers/load.sh   what is printed answers the query
//
// Filters are member-join, member-leave, member-failed, member-update,
// member-reap, user, user:NAME, query, query:NAME and *, as in Serf, and
// member-evict, member-quarantine and epoch. The program is a path: no shell reads it
// and it gets no arguments. A program is an ELF file or a text file whose first line is
// #! and an interpreter.
//
// The program must belong to root or to the agent's user, and nobody else may
// be able to write to it or to any directory above it. A directory such as /tmp
// is acceptable because its sticky bit keeps others from exchanging the file.
// This is checked when the agent starts and again before every run.
//
// # What a handler is given
//
// The environment holds these variables and no others:
//
//	PATH      /usr/sbin:/usr/bin:/sbin:/bin
//	HOME      an empty directory of its own, removed after the run
//	TMPDIR    the same directory; it is the working directory too
//	LANG      C.UTF-8
//
//	SERF_EVENT          user, query, member-join, ...
//	SERF_SELF_NAME      this node's name
//	SERF_SELF_ROLE      its tag role, or empty
//	SERF_TAG_<NAME>     each of its tags; upper case, other characters become _
//	SERF_USER_EVENT     name of the user event
//	SERF_USER_LTIME     its Lamport time
//	SERF_QUERY_NAME     name of the query
//	SERF_QUERY_LTIME    its Lamport time
//
//	SECGOSSIP_...       the same, and for user events and queries also
//	SECGOSSIP_PRINCIPAL who fired it, as their certificate names them
//	SECGOSSIP_EVENT_ID  its id in hex: equal ids are the same event
//	SECGOSSIP_ORIGIN    the node at which it entered the cluster, if that is known
//	SECGOSSIP_QUERY_ID, SECGOSSIP_QUERY_DEADLINE   of queries: id, and the end in Unix milliseconds
//
// A handler whose settings say so gets one JSON document instead. docs/handlers.md
// has all of it, and the settings that a handler can have of its own.
//
// Standard input is the payload of a user event or query, with a newline added
// when it is not empty and does not end in one. For member events it is a line
// for each member, in which tab and newline are written \t and \n:
//
//	name TAB address TAB role TAB key=value,key=value
//
// Standard output of a handler that exits with 0 answers a query. Standard
// error never does. An answer has up to 1 MiB; of each the first and the last 32 KiB
// are kept.
//
// # What a handler may do
//
// It never runs as root. An agent started as root runs handlers as another
// user, without supplementary groups; an agent of an ordinary user can only run
// them as itself. A handler holds no capabilities and cannot gain any, set-uid
// programs included. It may read and run what its user may, except in the
// agent's own directories, and write to its scratch directory, /dev/null and the
// paths the settings name. It has no network, only Unix sockets, and system calls
// that reach other processes or the host fail with EPERM. With an agent that is
// root, or gets user namespaces from its kernel, its scratch directory is in memory
// (64 MiB), and it sees its own processes only, under a process 1 of the agent's,
// which reaps orphans. It has descriptors 0 to 2 only, a umask of 077, a time limit (30 s unless set
// otherwise) and the limits in limits_linux.go.
//
// One handler's runs follow one another, unless its settings allow several at
// once; different handlers run side by side.
// When a run ends, by itself or by its time limit, every process it started is
// killed (without namespaces and a cgroup: every process left in its process
// group). A handler cannot leave a job behind. It is no place to start a daemon.
//
// # Differences from Serf that a script may notice
//
//   - A spec with several filters is one handler, so that an event which
//     matches two of them runs it once, not twice.
//   - A script runs from a private copy. $0 names the copy; trusted files that
//     lie beside the script are linked beside the copy, so that
//     "$(dirname "$0")/lib.sh" still works.
//   - A script needs a #! line, and background jobs do not survive.
//   - Only standard output answers a query.
//   - When two tags become the same variable, the tag that sorts first wins.
//
// # For the agent
//
// New checks every program and every setting and reports all problems at once.
// Dispatch never waits. Reload puts other handlers in the place of those there are.
// The main function of every program that uses New must
// call ShimMain before anything else.
package handler
