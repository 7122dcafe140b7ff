package keyring

import "crypto/sha256"

// MAC returns HMAC-SHA256 of data under the secret. A secret used for this is
// used for nothing else: the knock secret is. The error is ErrDestroyed.
func (s *Secret) MAC(data []byte) ([sha256.Size]byte, error) {
	var sum [sha256.Size]byte
	err := s.use(func(raw []byte) error {
		erasing(func() {
			k := &kdf{inner: sha256.New(), outer: sha256.New()}
			defer k.wipe()
			k.mac(raw, data)
			sum = k.sum
		})
		return nil
	})
	return sum, err
}
