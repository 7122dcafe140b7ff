package keyring

import (
	"bytes"
	"errors"
	"testing"
)

func TestStatementIsReplaced(t *testing.T) {
	knock, err := NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	secret, err := NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	k := New(knock)
	if err := k.Install(Epoch{Number: 1, Statement: []byte("install"), Secret: secret}); err != nil {
		t.Fatal(err)
	}
	before, _ := k.Get(1)
	given := []byte("install and use")
	if err := k.SetStatement(1, given); err != nil {
		t.Fatal(err)
	}
	given[0] = 'X' // the keyring has its own copy
	if after, _ := k.Get(1); string(after.Statement) != "install and use" {
		t.Errorf("got %q", after.Statement)
	}
	if string(before.Statement) != "install" {
		t.Errorf("an epoch handed out earlier became %q", before.Statement)
	}
	if err := k.SetStatement(2, nil); !errors.Is(err, ErrUnknownEpoch) {
		t.Errorf("epoch 2: got %v, want ErrUnknownEpoch", err)
	}
	if err := k.SetStatement(1, bytes.Repeat([]byte{1}, MaxStatement+1)); !errors.Is(err, ErrSize) {
		t.Errorf("too long: got %v, want ErrSize", err)
	}
	k.Destroy()
	if err := k.SetStatement(1, nil); !errors.Is(err, ErrDestroyed) {
		t.Errorf("after Destroy: got %v, want ErrDestroyed", err)
	}
}
