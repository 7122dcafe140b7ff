package secgossip

import (
	"errors"
	"fmt"
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

// CheckKeyring reports pki.ErrForeign when an epoch of a keyring was not announced in
// this cluster: two hosts may be opened by one passphrase and be of two clusters. A
// statement is bound to its cluster by what it signs. Whether its keeper is believed
// is not asked here: that needs issuers which a node may have yet to hear of, and a
// credential which may have expired since.
func CheckKeyring(ring *keyring.Keyring, trust *pki.Trust) error {
	for _, info := range ring.List() {
		epoch, _ := ring.Get(info.Number)
		if len(epoch.Statement) == 0 {
			continue // the first epoch of a cluster may have none
		}
		if err := checkCluster(epoch.Statement, trust.Cluster()); err != nil {
			return fmt.Errorf("epoch %d is %w: %w", info.Number, pki.ErrForeign, err)
		}
	}
	return nil
}

// checkCluster checks that the first statement about an epoch was made in a cluster.
func checkCluster(statements []byte, cluster pki.ClusterID) error {
	pairs, err := wire.BatchStatements.Parse(statements)
	if err != nil || len(pairs) < 2 {
		return errors.Join(errors.New("its statements do not read"), err)
	}
	signed, err := wire.ParseStatement(pairs[0])
	if err != nil {
		return err
	}
	key, err := pki.ClaimedKey(pairs[1])
	if err != nil {
		return err
	}
	return signed.Verify(key, cluster)
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
