package secgossip

import (
	"time"

	"github.com/secgossip/secgossip/keyring"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// Found makes the keyring of a new cluster: a knock secret, and epoch 1 in use,
// with the statements of the keeper that founds it.
func Found(founder Identity, trust *pki.Trust, now time.Time) (*keyring.Keyring, error) {
	knock, err := keyring.NewSecret()
	if err != nil {
		return nil, err
	}
	secret, err := keyring.NewSecret()
	if err != nil {
		knock.Destroy()
		return nil, err
	}
	ring := keyring.New(knock)
	if err := foundEpoch(ring, secret, founder, trust, now); err != nil {
		secret.Destroy()
		ring.Destroy()
		return nil, err
	}
	return ring, nil
}

func foundEpoch(ring *keyring.Keyring, secret *keyring.Secret, founder Identity, trust *pki.Trust, now time.Time) error {
	said := wire.Statement{
		Number:     1,
		Commitment: secret.Commitment(),
		Keeper:     string(founder.Name),
		Issued:     now,
		Reason:     "init",
	}
	var pairs [][]byte
	for _, action := range []wire.Action{wire.ActionInstall, wire.ActionUse} {
		said.Action = action
		raw, err := wire.SignStatement(founder.Signing, trust.Cluster(), said)
		if err != nil {
			return err
		}
		if _, err := verifyStatement(trust, raw, founder.Credential, now); err != nil {
			return err
		}
		pairs = append(pairs, raw, founder.Credential)
	}
	body, err := wire.BatchStatements.Append(nil, pairs)
	if err != nil {
		return err
	}
	if err := ring.Install(keyring.Epoch{Number: 1, Created: now, Statement: body, Secret: secret}); err != nil {
		return err
	}
	return ring.Use(1)
}
