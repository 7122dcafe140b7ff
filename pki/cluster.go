package pki

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
)

// ClusterID names a cluster for ever: the SHA-256 of the 32 bytes of its root's
// Ed25519 public key. Threat N04: it is in every signature and key derivation,
// so a name or a configuration shared by two clusters does not join them.
type ClusterID [sha256.Size]byte

func clusterIDOf(root ed25519.PublicKey) ClusterID { return sha256.Sum256(root) }

// String returns the first 8 bytes in hex: enough to compare by eye.
func (id ClusterID) String() string { return hex.EncodeToString(id[:8]) }

// Hex returns all 32 bytes in hex.
func (id ClusterID) Hex() string { return hex.EncodeToString(id[:]) }
