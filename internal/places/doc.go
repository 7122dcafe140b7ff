// Package places bounds the connections that strangers hold of a listener.
//
// Whoever connects is a stranger until proven otherwise, and holds a place until
// then. There are so many places in all, so many for one source, and some only
// known sources may use: those at which the listener knows somebody.
//
// When there is no place left, one who came is not turned away: somebody who was
// there makes room and is closed without a word: a silent one of the older half,
// or else the oldest. The argument is time. Whoever may come in is through within a few round
// trips; whoever holds a place to keep others out holds it for as long as he may.
// So to keep an honest caller out it is not enough to come back whenever a place
// falls free, a few times a second: half of the places of the source, or of all
// strangers, must be taken again within one round trip, before the caller has said
// its first bytes; or all of them within the few, by callers who begin as honest
// ones do. That holds behind one address too, for a caller that shares it with
// whoever attacks.
//
// Handshakes cost time on a processor, and a stranger may start many. They take
// turns: half of the processors compute for them at most, and whoever waits for
// bytes from the other end waits without a turn, so nobody can sit on one.
package places
