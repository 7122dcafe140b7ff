// Package rpcauth decides who may do what.
//
// Two things are asked of every caller, on every call and on every listener,
// loopback included:
//
//   - Who calls? A client certificate of this cluster, in TLS 1.3. The caller
//     proves that it holds the certificate's key.
//   - What may they do? A token: a list of grants, signed by the cluster's root
//     or one of its issuers, and bound to that same key.
//
// A stolen token is useless without the key, and so is the key without a token.
//
// # Grants
//
//	members:read   list members, read an agent's figures
//	monitor        follow events and logs
//	event:GLOB     fire events whose name fits GLOB
//	query:GLOB     ask queries whose name fits GLOB; query:_ping is for reachability
//	answer:GLOB    answer, for a node, queries whose name fits GLOB
//	keys:read      list epochs (no grant shows a key)
//	keys:rotate    start, use and remove epochs
//	node:tags      change an agent's tags
//	node:join      make an agent join addresses
//	node:leave     make an agent leave and stop
//	node:evict     evict, ban and unban members
//	token:mint     mint tokens no wider than one's own
//	enroll:mint    invite new nodes
//	admin          all of the above
//
// In a GLOB `*` stands for any run of characters and `?` for exactly one:
// `event:deploy`, `event:deploy-*`, `event:*`.
//
// # Tokens
//
// A token is a CBOR Web Token (RFC 8392): the claims below in a COSE_Sign1 whose
// external data are "secgossip/1 token", a zero byte and the cluster id. As text
// it is "sgt_" followed by the bytes in base64url without padding, at most 2048
// characters. Both forms have one encoding; any other is refused.
//
//	2  sub     the client's name, as its certificate has it
//	4  exp     seconds since 1970; clocks may be 2 minutes apart
//	5  nbf     seconds since 1970
//	7  cti     16 random bytes, the id by which it is revoked
//	8  cnf     {1: {1: 1, -1: 6, -2: the client's Ed25519 key, 32 bytes}}
//	-65539     the grants, 1 to 64 texts, in ascending order, each once
//
// Any agent verifies a token without asking anybody. One that outlives the
// certificate of its signer is void from the certificate's end on.
//
// # Signed events
//
// An RPC to one agent must not be the reason why another host runs a program.
// So the client signs the event itself, with its own key and its token inside,
// and every node checks both before it relays, stores or runs anything. The
// external data are "secgossip/1 event", a zero byte and the cluster id.
//
//	1  id        16 random bytes; a node takes an id once
//	2  name      1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit
//	3  payload   at most 512 bytes, absent when empty
//	4  nodes     for these nodes only, ascending, each once; absent for all
//	5  ltime     the Lamport time, 1 to issued and 120,000
//	6  issued    milliseconds since 1970
//	7  expires   milliseconds since 1970, at most an hour after issued
//	8  coalesce  true if a later event of this name may stand for it; else absent
//	9  token     the bytes of the token
//	10 tags      only nodes whose tags fit: [{1: tag, 2: expression}], ascending; absent for all
//	11 digest    SHA-256 of a payload that is not in 3; absent when there is none
//	12 size      bytes of that payload, 513 to 1,048,576; absent when there is none
//
// A signature by any key but the one the token is bound to is refused, a node's
// key included: a node that was broken into can withhold events and no more.
//
// # Signed queries
//
// A query is signed in the same way and checked by every node in the same way. Its
// external data are "secgossip/1 query", a zero byte and the cluster id, so that
// neither passes for the other. 1 to 7 and 9 are as in an event, and
//
//	8   ack      true if each node is to acknowledge it; else absent
//	10  tags     only nodes whose tags fit: [{1: tag, 2: expression}], ascending
//	11  relay    through how many others a reply goes as well; absent when zero
//	12  timeout  milliseconds for which replies are waited for, at most 10 minutes
//	13  origin   the node that it was handed to, to which replies go
//
// expires is issued and timeout and at most 2 minutes, by which clocks may be apart.
// An expression is RE2, at most 128 bytes, and must match a whole value.
//
// # Refusals
//
// Whoever is not recognised hears "unauthenticated" and no reason; the reason is
// in the audit record. Whoever is recognised but lacks a grant is told which.
// Those who fail are slowed down, those who succeed are not: see Gate.
package rpcauth
