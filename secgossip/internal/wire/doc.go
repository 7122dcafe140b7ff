// Package wire turns bytes into messages and messages into bytes. It decides
// nothing: no clock, no socket, no key of its own. Every limit is in limits.go
// with its reason. The specification is docs/protocol.md; what follows is a map.
//
// # Datagrams
//
// All numbers are big endian. A datagram has from 64 to 1,216 bytes, always a
// multiple of 64:
//
//	 0              16                                     n-16         n
//	+----------------+-------------------------------------+------------+
//	| door           | sealed plaintext                    | tag        |
//	| one AES block  | AES-256-GCM, the door block is its  | 16 bytes   |
//	|                | associated data                     |            |
//	+----------------+-------------------------------------+------------+
//
// The door, once its block is decrypted with the receiver's door key:
//
//	 0      1                 7                12              16
//	+------+-----------------+----------------+---------------+
//	| type | hint: which     | counter        | check: zeros  |
//	|      | traffic key     | 40 bits        |               |
//	+------+-----------------+----------------+---------------+
//
// The plaintext:
//
//	 0        2                2+length                       end
//	+--------+----------------+------------------------------+
//	| length | payload        | zeros, fewer than 64         |
//	+--------+----------------+------------------------------+
//
// The payload, by type:
//
//	gossip (1):  count | count x { length uint16 | evidence } | memberlist packet
//	events (2):  { length uint16 | mark 80 bytes | signed event } ...
//	epochs (3):  { length uint16 | signed epoch statement | length uint16 | credential } ...
//	records (4): { length uint16 | signed node record } ...
//	path challenge (5): token 8 bytes | try 1 byte | zeros, up to 1,182 bytes
//	path response (6):  token 8 bytes | time uint64
//	state (7): the body of an ack
//	repair (9): as events
//	tally (10), lacks (11): from 8 bytes | to 8 bytes | { hint 8 bytes | start uint32 | next uint32 | above uint64 } ...
//	queries (13): { length uint16 | signed query } ...
//	replies (14), relay (15): { length uint16 | signed reply } ...
//	taken (16): query id 16 bytes | kind 1 byte
//
// # Streams
//
// A dialler first sends a 32-byte knock, and everything after it is TLS 1.3.
// The MAC is over more than is sent: also the cluster, and the listener that the
// knock is for. Inside TLS both sides speak in frames:
//
//	 0                8               16                              32
//	+----------------+----------------+-------------------------------+
//	| milliseconds   | random         | MAC, first 16 bytes           |
//	+----------------+----------------+-------------------------------+
//
//	 0      1                 5               5+length
//	+------+-----------------+---------------+
//	| type | length uint32   | body          |
//	+------+-----------------+---------------+
//
// # Rules
//
// There is one encoding of each message: whatever a Parse function accepts, the
// matching Append function writes back byte for byte. What Parse functions
// return may share memory with what they were given, unless they say otherwise.
// Append functions add to dst and leave it as it was when they fail.
package wire
