package keyring

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// Everything that prints is walked through every way of printing it, and what
// comes out is searched for the secret's bytes in any form they may take.
func TestNothingPrintsASecret(t *testing.T) {
	raw := []byte("GhIjKlMnOpQrStUv\xff\xfe\"\\ZYXWVUTSRQPO")
	secret := must(SecretFrom(bytes.Clone(raw)))(t)
	signing := must(newSigningKey(func(seed []byte) error { copy(seed, raw); return nil }))(t)
	agreement := must(newAgreementKey(func(seed []byte) error { copy(seed, raw); return nil }))(t)
	passphrase := must(PassphraseLocker(raw, 0))(t)
	ring := New(secret)
	epoch := Epoch{Number: 1, Secret: must(SecretFrom(bytes.Clone(raw)))(t)}
	if err := ring.Install(epoch); err != nil {
		t.Fatal(err)
	}
	file := newFile("/somewhere", passphrase, ring)
	t.Cleanup(func() { ring.Destroy(); signing.Destroy(); agreement.Destroy(); passphrase.Destroy() })

	for _, value := range []any{
		secret, *secret, signing, *signing, agreement, *agreement, passphrase, *passphrase,
		ring, file, epoch, &epoch, []*Secret{secret}, map[string]*SigningKey{"a": signing}, ring.List(),
		struct{ Key *AgreementKey }{agreement}, struct{ hidden *Secret }{secret},
	} {
		var outputs []string
		for verb := rune('a'); verb <= 'z'; verb++ {
			for _, flags := range []string{"", "+", "#", "-", " ", "0", "# ", "40.30"} {
				outputs = append(outputs, fmt.Sprintf("%"+flags+string(verb), value))
				outputs = append(outputs, fmt.Sprintf("%"+flags+string(verb-'a'+'A'), value))
			}
		}
		outputs = append(outputs, fmt.Sprint(value), fmt.Sprintln(value), fmt.Errorf("%v", value).Error())
		if text, err := json.Marshal(value); err == nil {
			outputs = append(outputs, string(text))
		}
		var log bytes.Buffer
		options := &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey { // digits that could be anything
				return slog.Attr{}
			}
			return a
		}}
		slog.New(slog.NewTextHandler(&log, options)).Info("text", "value", value)
		slog.New(slog.NewJSONHandler(&log, options)).Info("json", "value", value)
		outputs = append(outputs, log.String())

		for _, output := range outputs {
			if form := containsSecret(output, raw); form != "" {
				t.Errorf("%T prints its secret (%s): %q", value, form, output)
			}
		}
	}
}

// containsSecret looks for 4 bytes from the beginning, the middle or the end.
func containsSecret(output string, raw []byte) (form string) {
	for _, from := range []int{0, 8, 12, len(raw) - 4} {
		piece := raw[from : from+4]
		for form, needle := range map[string]string{
			"raw":     string(piece),
			"hex":     hex.EncodeToString(piece),
			"HEX":     strings.ToUpper(hex.EncodeToString(piece)),
			"x x":     fmt.Sprintf("% x", piece),
			"0x, 0x":  strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", piece), "[]byte{"), "}"),
			"decimal": strings.Trim(fmt.Sprint(piece), "[]"),
			"base64":  base64.StdEncoding.EncodeToString(raw[from/3*3:][:3]),
		} {
			if strings.Contains(output, needle) {
				return form
			}
		}
	}
	return ""
}

func TestASecretPrintsAsItsFingerprint(t *testing.T) {
	s := newTestSecret(t, 1)
	want := s.Fingerprint()
	if len(want) != 8 || strings.Trim(want, "0123456789abcdef") != "" {
		t.Fatalf("fingerprint: got %q, want 8 hexadecimal digits", want)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p"} {
		if format == "%p" {
			continue // fmt prints the address of the handle, and asks nobody
		}
		if got := fmt.Sprintf(format, s); got != want {
			t.Errorf("%s: got %q, want %q", format, got, want)
		}
		if got := fmt.Sprintf(format, *s); got != want {
			t.Errorf("%s of a copied handle: got %q, want %q", format, got, want)
		}
	}
	if got := string(must(json.Marshal(map[string]any{"s": s}))(t)); got != `{"s":"`+want+`"}` {
		t.Errorf("JSON: got %s, want the fingerprint %q", got, want)
	}
	if got := s.LogValue().String(); got != want {
		t.Errorf("slog: got %q, want %q", got, want)
	}
	var none *Secret
	if got := none.Fingerprint(); got != "none" {
		t.Errorf("no secret: got %q, want %q", got, "none")
	}
	if got := fmt.Sprintf("%v", Epoch{Secret: s}); !strings.Contains(got, want) {
		t.Errorf("epoch: got %q, want the fingerprint %q in it", got, want)
	}
}
