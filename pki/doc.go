// Package pki says who somebody is in a cluster.
//
// A cluster is everything under one root key. Its [ClusterID] is the hash of
// that key and goes into every signature and every key derivation, so nothing
// made in one cluster means anything in another.
//
// An identity is a name, a kind (node or client) and an Ed25519 key that its
// owner made and never gives away. An [Authority] signs it twice, because it is
// needed in two places:
//
//   - an X.509 certificate, about 500 bytes, for TLS;
//   - a [Credential], about 250 bytes, where a packet has to carry it. A node's
//     credential also holds its X25519 key for agreement, and its roles.
//
// The tree has two levels and never more:
//
//	root            spiffe://CLUSTER                offline, 10 years
//	├── node        spiffe://CLUSTER/node/NAME      7 days, renewed by itself
//	├── client      spiffe://CLUSTER/client/NAME    90 days
//	└── issuer      spiffe://CLUSTER/issuer/NAME    on a keeper, 1 year
//	    ├── node    ...
//	    └── client  ...
//
// A [Trust] is the other side: the roots from bundle.pem and the issuers heard
// of since. It verifies chains and credentials and makes the TLS settings for
// both ends of a connection. A certificate is accepted when it is exactly what
// an Authority would have written; see profile.go for every field. There is no
// list of tolerated oddities and no setting that adds one.
//
// A TLS peer sends its issuer along, so its chain verifies on a host that never
// heard of that issuer. A credential has no room for that: [ErrUnknownSigner]
// asks for the issuer, which [Trust.AddIssuer] takes from anybody, since it
// believes only the root's signature.
//
// Time is an argument everywhere. Certificates and credentials begin 5 minutes
// before they are made, clocks may be 2 minutes apart, and nothing lives longer
// than what signed it.
package pki
