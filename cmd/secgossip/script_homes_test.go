//go:build unix

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/keyring"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/rpcauth"
)

// passphrase opens the root of every cluster in these tests.
const passphrase = "correct horse battery staple"

// templates makes these homes and returns the folder they are in:
//
//	web-1            first keeper of cluster demo, with root and operator
//	web-2, web-3     nodes of it
//	keeper-2         another keeper of it
//	deployer         a client who may fire deploy
//	reader           a client who may list members
//	other            first keeper of another cluster, whose node is a web-1 too
//	old              a keeper and operator of a third, whose identities have expired
func templates(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	now := time.Now()
	at := func(name string) home.Home { return home.Home(filepath.Join(dir, name)) }
	for _, c := range []struct {
		name, cluster string
		made          time.Time
	}{
		{"web-1", "demo", now},
		{"other", "other", now},
		{"old", "demo", now.Add(-home.NodeLife - time.Hour)},
	} {
		check(t, at(c.name).Init(t.Context(), home.InitRequest{
			Cluster: pki.Name(c.cluster), Node: "web-1",
			Passphrase: []byte(passphrase), WorkFactor: cheapWorkFactor,
		}, c.made))
	}
	ask := func() ([]byte, error) { return []byte(passphrase), nil }
	for _, name := range []string{"web-2", "web-3", "keeper-2"} {
		order := home.NodeOrder{Name: pki.Name(name), Keeper: strings.HasPrefix(name, "keeper")}
		check(t, at("web-1").IssueNode(t.Context(), at(name), order, ask, now))
	}
	for name, grant := range map[string]rpcauth.Grant{"deployer": "event:deploy", "reader": "members:read"} {
		order := home.ClientOrder{Name: pki.Name(name), Grants: []rpcauth.Grant{grant}}
		check(t, at("web-1").IssueClient(t.Context(), at(name), order, ask, now))
	}
	return dir
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func cmdHomes(ts *testscript.TestScript, args []string) {
	usage(ts, len(args) > 0, "homes NAME...")
	w := worldOf(ts)
	for _, name := range args {
		from, to := filepath.Join(w.templates, name), ts.MkAbs(name)
		ts.Check(os.RemoveAll(to))
		ts.Check(filepath.WalkDir(from, func(path string, entry os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			target := filepath.Join(to, strings.TrimPrefix(path, from))
			info, err := entry.Info()
			if err != nil {
				return err
			}
			if entry.IsDir() {
				return os.Mkdir(target, info.Mode().Perm())
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(target, content, info.Mode().Perm())
		}))
	}
}

func cmdTruncate(ts *testscript.TestScript, args []string) {
	usage(ts, len(args) == 2, "truncate FILE SIZE")
	size, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), size))
}

// cmdHandler makes a file and a handler that notes in it what it was run for. The
// file belongs to the user that runs handlers for an agent that is root; other
// agents run them as themselves.
func cmdHandler(ts *testscript.TestScript, args []string) {
	usage(ts, len(args) == 1, "handler FILE")
	file := ts.MkAbs(args[0])
	program := "#!/bin/sh\nprintf '%s %s %s\\n' \"$SERF_SELF_NAME\" \"$SERF_USER_EVENT\" \"$(cat)\" >> '" + file + "'\n"
	ts.Check(os.WriteFile(file+".sh", []byte(program), 0o600))
	ts.Check(os.Chmod(file+".sh", 0o755)) // whatever the umask
	ts.Check(os.WriteFile(file, nil, 0o600))
	if os.Geteuid() != 0 {
		return
	}
	nobody, err := user.Lookup("nobody")
	ts.Check(err)
	uid, err := strconv.Atoi(nobody.Uid)
	ts.Check(err)
	ts.Check(os.Chown(file, uid, -1))
}

func cmdNoSecrets(ts *testscript.TestScript, args []string) {
	usage(ts, len(args) > 1, "nosecrets HOME FILE...")
	secrets := secretsOf(ts, ts.MkAbs(args[0]))
	places := map[string]string{"stdout": ts.ReadFile("stdout"), "stderr": ts.ReadFile("stderr")}
	for _, name := range args[1:] {
		places[name] = ts.ReadFile(name)
	}
	for name, d := range worldOf(ts).daemons {
		if d.ended() {
			continue
		}
		for _, of := range []string{"cmdline", "environ"} {
			content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(d.cmd.Process.Pid), of))
			if err != nil && of == "cmdline" {
				ts.Fatalf("%v", err)
			}
			// An agent's environ is not even ours to read, unless we are root.
			places[of+" of "+name] = string(content)
		}
	}
	for what, secret := range secrets {
		for form, text := range map[string]string{
			"itself":    string(secret),
			"as hex":    hex.EncodeToString(secret),
			"as HEX":    strings.ToUpper(hex.EncodeToString(secret)),
			"as base64": base64.RawStdEncoding.EncodeToString(secret),
			"as URL":    base64.RawURLEncoding.EncodeToString(secret),
		} {
			for place, content := range places {
				if strings.Contains(content, text) {
					ts.Fatalf("%s holds the %s, %s", place, what, form)
				}
			}
		}
	}
}

// secretsOf opens everything that is sealed in a home.
func secretsOf(ts *testscript.TestScript, dir string) map[string][]byte {
	secrets := make(map[string][]byte)
	file := func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	for _, name := range []string{"client/token", "client/client.key"} {
		secrets[name] = bytes.TrimSpace([]byte(ts.ReadFile(file(name))))
	}
	unlock := strings.Split(strings.TrimSpace(ts.ReadFile(file("node/unlock.key"))), "\n")
	secrets["node/unlock.key"] = []byte(unlock[len(unlock)-1])
	locker, err := keyring.OpenMachineLocker(file("node/unlock.key"))
	ts.Check(err)
	for _, name := range []string{"node/signing.key.age", "node/agreement.key.age", "node/issuer.key.age"} {
		content, err := locker.ReadFile(file(name))
		ts.Check(err)
		// The form around a key is the same for all; its end is the key.
		raw := bytes.Clone(content.Bytes())
		secrets[name] = raw[max(0, len(raw)-32):]
		content.Destroy()
	}
	ring, err := keyring.OpenFile(file("node/keyring.age"), locker)
	ts.Check(err)
	secrets["knock secret"] = rawSecret(ts, ring.Keyring().Knock())
	for _, info := range ring.Keyring().List() {
		epoch, _ := ring.Keyring().Get(info.Number)
		secrets["epoch "+strconv.FormatUint(info.Number, 10)] = rawSecret(ts, epoch.Secret)
	}
	return secrets
}

func rawSecret(ts *testscript.TestScript, s *keyring.Secret) []byte {
	var raw bytes.Buffer
	_, err := s.WriteTo(&raw)
	ts.Check(err)
	return raw.Bytes()
}
