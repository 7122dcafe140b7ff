// Package keyring holds secrets: locked in memory, sealed at rest, used by
// purpose, never read.
//
// # What there is
//
// A [Secret] is 32 random bytes from which keys are derived: an epoch's secret,
// or the cluster's knock secret. A [SigningKey] signs (Ed25519), an
// [AgreementKey] agrees with a peer (X25519). All three are handles. There is no
// way to ask one for its bytes; whatever prints it, in any verb, in JSON or in a
// log, prints its fingerprint.
//
// A [Keyring] is the set of epochs an agent holds. A [File] keeps a keyring on
// disk, sealed with a [Locker]: a passphrase, the machine's own key, or an age
// identity that lies elsewhere. Every sealed file is an ordinary age file, so that
// an operator whose agent is broken can still open it with the age command.
//
// # At rest
//
// Everything is sealed but two files that cannot be: the machine's key, which
// unseals the others, and a client's key, which operators hand to curl. Those,
// like the sealed ones, are made 0600 from their first byte, written beside and
// renamed, and refused on reading when they are not ours or anybody else could
// read them. A thief of the disk without the passphrase has nothing. A thief of
// a disk that also holds the machine's key has everything on it: put that key on
// other storage (a TPM, a service manager's credential) where disks get stolen,
// and see [OpenCredentialLocker].
//
// A retired epoch leaves the file and its previous version in one step. Blocks
// that the file system freed may still hold the sealed bytes of older versions.
//
// # In memory
//
// The bytes of a handle live in one page that is locked (never swapped), guarded
// on both sides, read-only, and left out of core dumps. [Harden] shuts the other
// two doors, core dumps and ptrace. Destroying a handle wipes the page; using it
// afterwards is an error, never a fault.
//
// These copies exist outside that page, and no others that we know of:
//
//   - Secret: Derive, the commitment and the sealing of a keyring leave none. The
//     derivation wipes the states of its hashes, and files are sealed and opened
//     here without age's own 64 KiB buffers. A test reads this process's memory
//     and finds one copy while a secret lives, and none after. What Derive
//     returns is the caller's to wipe, and an AES key schedule made from it lives
//     in the Go heap as long as its cipher.
//   - SigningKey: crypto/ed25519 expands the key, seed included, on the stack and
//     in the heap, when the key is made and at each signature, and remembers the
//     expansion by the key's address until a garbage collection finds the key
//     gone. The signer hands it a copy made for that one signature and wiped after
//     it, so the expansion is garbage at once; but it is not wiped, and stays until
//     the memory is used again.
//   - AgreementKey: crypto/ecdh copies the key into the heap, likewise.
//   - Locker: age works with the passphrase as a string, with an age identity in
//     its parsed form and with the key of a file's payload, all in the heap. They
//     are garbage when a file has been sealed or opened, and are not wiped. The
//     key of one file (not its payload key) is wiped.
//   - A client's key file is decoded into 48 bytes of heap, which are wiped.
//   - Registers, and the stacks that the kernel saves them on at a signal. The
//     registers that copying uses are overwritten after each use of a secret, so
//     what remains is a signal within it; its stack is used again at the next.
//
// Built with GOEXPERIMENT=runtimesecret, the Go runtime erases the stacks and
// registers of all of these steps, and their heap memory once it is garbage. The
// package seal does the same for the keys that it derives from a secret.
//
// memguard's Enclave is not used: it can hang for good at the limit of locked
// memory. Call memguard.Purge last of all when a process ends: it destroys every
// handle.
package keyring
