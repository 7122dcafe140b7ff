// Package seal turns payloads into datagrams that only one receiver can open,
// once, and drops everything else at the least cost. It has no socket, no clock
// and no randomness of its own.
//
// A traffic key is for one direction between two nodes, in one epoch, between
// one start of either process and the next, and for 2^30 datagrams. It needs two
// things to be derived:
//
//   - the X25519 agreement of the two nodes' static keys, so that a thief of the
//     epoch secret reads nothing, and no member can speak for another;
//   - the epoch secret, so that who is left out of an epoch is out.
//
// The key of the door, the first block of a datagram, needs only the epoch
// secret and the receiver's identity. Its check bytes tell a member's datagram
// from a stranger's for the price of one AES block per epoch held:
//
//	door key         = HKDF(secret; "secgossip/1 door" || cluster || epoch ||
//	                   receiver key), 32 bytes
//	traffic secret 0 = HKDF(agreement || secret; "secgossip/1 traffic" ||
//	                   cluster || epoch || sender key || receiver key ||
//	                   sender boot || receiver boot), 38 bytes: 32, and hint 6
//	traffic key g    = HKDF-Expand(traffic secret g; "secgossip/1 key"), 64
//	                   bytes: AES-256-GCM key 32, traffic secret g+1 32
//
// HKDF is with SHA-256 and without salt; epoch is 8 bytes, big endian. Traffic
// key g, of four, seals the counters from g * 2^30 on. The nonce is 4 zeros and
// the door's counter in 8 bytes, big endian. The door block, encrypted, is the
// associated data.
//
// Protocol 4.4; the argument that no two of these are the same is Protocol 10.
//
// Use: one Sender for each peer and epoch, one Inbox for the node, in it one
// Receiver for each peer and epoch. The boot nonces are those of the newest
// record of either side; a new one means new Senders and Receivers. The record's
// sequence, which only grows, sees to it that an earlier nonce never comes back.
package seal
