package wire

import "time"

// The shape of a datagram. Both ends must agree on these: they are the protocol.
// Protocol 8.1.
const (
	// MaxDatagram is the largest datagram in bytes. Every IPv6 path carries
	// packets of 1,280 bytes whole (RFC 8200, section 5). Less 40 for the IPv6
	// header and 8 for UDP, 1,232 remain, and 1,216 is the largest multiple of
	// DatagramStep below that. Nothing we send is ever fragmented.
	MaxDatagram = 1216

	// DatagramStep is what the length of every datagram is a multiple of, so
	// that lengths tell little: 19 different ones exist. Padding costs 32
	// bytes on average.
	DatagramStep = 64

	// MinDatagram is the smallest datagram: one step.
	MinDatagram = DatagramStep

	// DoorSize is one AES block: the least a stranger can cost us.
	DoorSize = 16

	// TagSize is the full AES-GCM tag.
	TagSize = 16

	// LengthSize is the length before anything of variable length in a datagram.
	LengthSize = 2

	// MaxPayload is what one datagram carries: 1216 - 16 - 2 - 16 = 1182.
	MaxPayload = MaxDatagram - DoorSize - LengthSize - TagSize

	// HintSize is the hint's length. Two of a node's 4,096 possible senders
	// share a 48-bit hint once in 2^48 / 2^23 = 2^25 epochs, and seal copes
	// with that.
	HintSize = 6

	// MaxGossipPacket is the longest memberlist packet, when nothing is beside
	// it: one byte counts the evidence.
	MaxGossipPacket = MaxPayload - 1

	// MaxCounter is the largest counter a door can hold: 40 bits. seal stops
	// at StopAfter, long before.
	MaxCounter = 1<<40 - 1
)

// The use of one traffic key.
const (
	// ReplayWindow is how far a datagram may be behind the newest one of its
	// sender: 0.8 s at 10,000 datagrams a second, and 1 KiB of memory for each
	// sender and epoch.
	ReplayWindow = 8192

	// RekeyAfter is the number of datagrams that one key seals: the counter
	// divided by it is the generation of the key. 2^30 messages of 75 AES
	// blocks are 2^36.2 blocks; the advantage of an attacker who has all of
	// them is q^2 / 2^129, about 2^-57.
	RekeyAfter = 1 << 30

	// StopAfter is the number of datagrams, of four generations, after which a
	// sender seals no more in its epoch, whatever happens. At 10,000 datagrams
	// a second to one peer it is reached after five days: rotate before.
	StopAfter = 4 * RekeyAfter

	// MaxEpochs is the number of epochs held at once: the primary, its
	// successor, its predecessor, one more for two keepers that act at once.
	// A stranger's datagram costs one AES block for each.
	MaxEpochs = 4

	// MaxSpentEpochs is how many removed epochs a node remembers one by one, so
	// as not to take one back: 42 days of hourly ones in 24 KiB. What is older
	// than all of them is refused by number.
	MaxSpentEpochs = 1024
)

// What travels in datagrams.
const (
	// MaxPacketItems is the number of signed things in one datagram. An empty
	// COSE_Sign1 of ours takes 1 tag + 1 array + 22 protected header + 1
	// unprotected + 1 payload + 66 signature = 92 bytes, 94 with its length,
	// and 1182 / 94 = 12.
	MaxPacketItems = 12

	// MaxEventPayload, MaxEventName: what a client may put into an event that
	// rides in gossip. Serf's default for both together is 512.
	MaxEventPayload = 512
	MaxEventName    = 64

	// MaxEventRaw is a whole signed event with its token: 92 COSE + 515
	// payload + 66 name + 60 id and times leave 367 for token and target. It
	// must fit one datagram behind its mark, 1182 - 2 - 80 = 1100.
	MaxEventRaw = 1100

	// MaxLargePayload is what a client may put beside an event: 1 MiB is on the way
	// for 8 seconds at 1 Mbit/s. A node keeps 64 MiB of payloads, 1,024 at most, and
	// has 12 in memory at once for members, four that come and eight that go.
	MaxLargePayload = 1 << 20

	// ReceiptSize is the key of an event: the hash of its client's key and its id, cut.
	// Two of 2^18 events that a journal holds share one with a probability of 2^-93.
	ReceiptSize = 16

	// MarkSize is an origin's hint, its start, a sequence and a signature.
	// MaxMarkedEvent is an event behind its mark.
	MarkSize       = 8 + 4 + 4 + 64
	MaxMarkedEvent = MarkSize + MaxEventRaw

	// TallyEntrySize is an origin's hint, its start, a sequence and 64 bits.
	// MaxTally is how many of them fit beside the range that a tally is about:
	// (1182 - 16) / 24 = 48.
	TallyEntrySize = 8 + 4 + 4 + 8
	MaxTally       = (MaxPayload - 16) / TallyEntrySize

	// MaxWholeTally is how many entries a tally on a stream has: eight starts of
	// each node, 786,432 bytes.
	MaxWholeTally = 8 * MaxRecords

	// MaxQueryRaw is a whole signed query with its token. Beside what an event has
	// it holds an origin and filters; what is too long its client is told.
	MaxQueryRaw = MaxEventRaw

	// MaxPacketReply is the longest signed reply in a datagram. Its 190 bytes around
	// the payload leave 990 for an answer.
	MaxPacketReply = MaxPayload - LengthSize

	// TakenSize is the id of a query and the kind of a reply to it.
	TakenSize = QueryIDSize + 1

	// QueryIDSize is the hash of a client's key and of what it chose, cut.
	QueryIDSize = 16

	// ChallengeSize is the length of a path challenge: the largest there is, so
	// that whatever we send gets where a challenge got. ResponseSize is its token
	// and a time.
	ChallengeSize = MaxPayload
	ResponseSize  = 8 + 8
)

// Node records and epoch statements.
const (
	// BootSize is the length of a boot nonce: fresh randomness of a process, so
	// that nothing of an earlier one is taken for its own. Random 16 bytes do
	// not meet twice.
	BootSize = 16

	// MaxName is the longest node name: one DNS label.
	MaxName = 63

	// MaxEndpoints is the number of addresses a node may have: both IP
	// families on four networks.
	MaxEndpoints = 8

	// MaxCredential is the longest credential. One is about 250 bytes, and 429
	// when every name is as long as it can be.
	MaxCredential = 448

	// MaxRecord is a whole signed node record: 94 COSE + 1 map + 66 name + 10
	// sequence + 18 boot nonce + 154 endpoints + 452 credential + 2 leaving = 797. Beside
	// one of them 1182 - 1 - 2 - 800 = 379 bytes remain for memberlist.
	MaxRecord = 800

	// MaxReason is the text that says why an epoch was made.
	MaxReason = 64

	// MaxEpochStatement is a whole signed epoch statement: 94 COSE + 1 map + 2
	// action + 10 number + 35 previous + 35 commitment + 66 keeper + 10 issued
	// + 67 reason + 18 digest of revocations + 158 named ones = 496.
	MaxEpochStatement = 512

	// SubjectSize is the hash of whom a revocation is about, cut: two of 1,024
	// share one with a probability of 2^-109. RevokedSize is the digest of all
	// revocations, cut alike.
	SubjectSize = 16
	RevokedSize = 16

	// NamedSize is a revocation as an epoch statement names it, by subject and
	// time, and MaxNamed how many it names: 6 x (2 + 24) + 2 = 158 bytes.
	NamedSize = SubjectSize + 8
	MaxNamed  = 6

	// MaxRevocation is a whole signed revocation: 94 COSE + 1 map + 2 verb + 2
	// kind + 66 name + 35 key + 10 before + 66 keeper + 10 issued + 67 reason =
	// 353, or the credential beside it.
	MaxRevocation = MaxCredential

	// MaxRevocations is how many subjects of revocations a cluster has at a time.
	// All of them with their credentials are 922 KB in a stream.
	MaxRevocations = 1024
)

// Streams.
const (
	// FrameHeaderSize is a frame's type and length.
	FrameHeaderSize = 5

	// MaxRecords is the largest cluster one roster describes.
	MaxRecords = 4096

	// MaxRoster is a roster frame: 4096 x (2 + 800) = 3,284,992 bytes, within
	// the 4 MiB that any one exchange may cost us.
	MaxRoster = MaxRecords * (LengthSize + MaxRecord)

	// MaxIssuers is the number of issuers a cluster may have, and MaxIssuer
	// the DER of one. An Ed25519 certificate with our names is about 500
	// bytes, 700 when every name is as long as it can be.
	MaxIssuers = 64
	MaxIssuer  = 1024

	// MaxStatements is the number of epoch statements in one frame: install,
	// use and remove for each of the MaxEpochs held are 12; the rest is for a
	// node that slept and wants the chain.
	MaxStatements = 64

	// MaxStreamBytes is what memberlist may read from one stream, after the
	// sync: 4096 members with 512 bytes of tags and 200 bytes of state each
	// are 2.8 MiB.
	MaxStreamBytes = 4 << 20

	// AckSize is three epoch numbers and a count.
	AckSize = 32

	// MaxHello is 1 map + 2 purpose + 803 record + 36 digest + 30 numbers = 872.
	MaxHello = MaxRecord + 72

	// MaxTallyBody is a tally of all origins, with its range. MaxRepair is what one
	// stream brings of what the other side lacks: some 900 events, 4 s at 1 Mbit/s of
	// the 15 that a sync may take. None of them is shorter than 128 bytes, so that
	// there are at most MaxRepairItems.
	MaxTallyBody   = 16 + MaxWholeTally*TallyEntrySize
	MaxRepair      = 512 << 10
	MaxRepairItems = MaxRepair / 128

	// MaxReplyRaw is a whole signed reply: an answer of 1 MiB, and 190 bytes around it.
	MaxReplyRaw = 1<<20 + 256

	// PayloadRequestSize is the SHA-256 of a payload.
	PayloadRequestSize = 32

	// SecretSize is an epoch secret, SecretRequestSize its number and commitment.
	SecretSize        = 32
	SecretRequestSize = 8 + 32

	// MaxCarried is a packet on a stream: its type and what a datagram carries.
	MaxCarried = 1 + MaxPayload

	// MaxRefusalText is one line for the other side's log.
	MaxRefusalText = 128

	// KnockSize is what a dialler sends before it is answered at all.
	KnockSize = 32

	// KnockTolerance is how far a knock's time may be from ours: the skew that
	// certificates tolerate too. Knocks are remembered for twice as long.
	KnockTolerance = 2 * time.Minute
)

// maxUnixSeconds is 9999-12-31T23:59:59Z. No time on the wire may be later, so
// that none overflows where it is used.
const maxUnixSeconds = 253402300799
