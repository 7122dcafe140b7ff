package epochs

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"debug/buildinfo"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/secgossip/secgossip/internal/lab"
	"github.com/secgossip/secgossip/keyring"
)

// needle is something to look for, in pieces of 8 bytes: half a copy counts, too.
type needle struct {
	what   string
	pieces []uint64
}

func newNeedle(what string, raw []byte) needle {
	n := needle{what: what}
	for piece := range slices.Chunk(raw, 8) {
		n.pieces = append(n.pieces, binary.LittleEndian.Uint64(piece))
	}
	return n
}

// find looks for needles in all memory of another process, and returns where there
// are pieces of each. The race detector would make it ten times slower.
//
//go:norace
func find(pid int, needles []needle) (found [][]string, err error) {
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil, err
	}
	defer memory.Close()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	var candidate [1 << 16]bool // nearly all of memory is dismissed by two bytes
	whose := make(map[uint64]int)
	for i, n := range needles {
		for _, piece := range n.pieces {
			candidate[uint16(piece)] = true
			whose[piece] = i
		}
	}
	found = make([][]string, len(needles))
	const chunk, overlap = 1 << 20, 7
	buffer := make([]byte, chunk)
	for lines := bufio.NewScanner(bytes.NewReader(maps)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		var from, to uint64
		if _, err := fmt.Sscanf(fields[0], "%x-%x", &from, &to); err != nil {
			return nil, err
		}
		if fields[1][0] != 'r' || strings.HasPrefix(fields[len(fields)-1], "[v") {
			continue
		}
		for at := from; at < to; at += chunk - overlap {
			size, err := memory.ReadAt(buffer[:min(chunk, to-at)], int64(at))
			if size == 0 && err != nil {
				break // unmapped meanwhile
			}
			for i := 0; i+8 <= size; i++ {
				if !candidate[uint16(buffer[i])|uint16(buffer[i+1])<<8] {
					continue
				}
				if j, ok := whose[binary.LittleEndian.Uint64(buffer[i:])]; ok {
					found[j] = append(found[j], fmt.Sprintf("%#x in %s", at+uint64(i), strings.Join(fields, " ")))
				}
			}
		}
	}
	return found, nil
}

// door is the key of a node's door, which comes from the epoch's secret alone. What
// crypto/aes makes of a key begins with the key. The keys of traffic, which would take
// both nodes' agreement, live and go with it.
func (c *cluster) door(n *lab.Node, epoch keyring.Epoch) needle {
	c.Helper()
	text, err := os.ReadFile(filepath.Join(c.In(n.Name), "node", "node.crt"))
	c.must(err)
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	c.must(err)
	cluster := c.operator.Trust.Cluster()
	info := append([]byte("secgossip/1 door"), cluster[:]...)
	info = binary.BigEndian.AppendUint64(info, epoch.Number)
	info = append(info, cert.PublicKey.(ed25519.PublicKey)...)
	key, err := epoch.Secret.Derive(nil, info, 32)
	c.must(err)
	return newNeedle(fmt.Sprintf("the door of %s in epoch %d", n.Name, epoch.Number), key)
}

// Threat L03, figure of a retired epoch: an outside scan of an agent's memory finds
// the secret in use once, in its locked page, and no retired one.
//
// Of the keys that crypto/aes has expanded the garbage collector erases those of
// retired epochs where the program is built with GOEXPERIMENT=runtimesecret; in the
// default build they stay until their memory is used again, as SECURITY.md says.
func TestRetiredSecretIsNowhereInAnAgentsMemory(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root may read the memory of an agent")
	}
	const rotations = 20
	c := newCluster(t, 1, 2)
	if _, err := find(c.nodes[0].NetworkPID(), nil); errors.Is(err, os.ErrPermission) {
		t.Skip("this root may not read the memory of an agent: ", err)
	}
	m := c.marksman(c.nodes[1])
	secrets, doors := c.derived()
	for range rotations {
		_, err := m.fire(t.Context())
		c.must(err)
		c.mustRotate(c.nodes[0])
		nextSecrets, nextDoors := c.derived()
		secrets, doors = append(secrets, nextSecrets...), append(doors, nextDoors...)
	}
	live, retired := secrets[rotations:], secrets[:rotations]
	erased := erases(t, c.Bin)
	if erased {
		retired = append(retired, doors[:len(doors)-len(c.nodes)]...)
	}
	t.Logf("the keys that AES expands are erased in this build: %t", erased)
	for _, n := range c.nodes {
		c.await(5*time.Second, func(context.Context) error {
			found, err := find(n.NetworkPID(), retired)
			if err != nil {
				return lab.Finally(err)
			}
			for i, places := range found {
				if len(places) > 0 {
					return fmt.Errorf("%s has %s: %q", n.Name, retired[i].what, places)
				}
			}
			return nil
		})
		found, err := find(n.NetworkPID(), live)
		c.must(err)
		for i, places := range found {
			if len(places) != len(live[i].pieces) {
				t.Errorf("%s: %s is there in %d pieces, want %d: %q", n.Name, live[i].what, len(places), len(live[i].pieces), places)
			}
		}
	}
}

// derived are the secret of the epoch in use and the keys of all doors in it. The
// keyring file is opened as an agent opens it, and the secret leaves by the one door
// there is.
func (c *cluster) derived() (secrets, doors []needle) {
	c.Helper()
	folder := filepath.Join(c.In(c.nodes[0].Name), "node")
	locker, err := keyring.OpenMachineLocker(filepath.Join(folder, "unlock.key"))
	c.must(err)
	defer locker.Destroy()
	file, err := keyring.OpenFile(filepath.Join(folder, "keyring.age"), locker)
	c.must(err)
	defer file.Keyring().Destroy()
	epoch := file.Keyring().Primary()
	var raw bytes.Buffer
	_, err = epoch.Secret.WriteTo(&raw)
	c.must(err)
	for _, n := range c.nodes {
		doors = append(doors, c.door(n, epoch))
	}
	return []needle{newNeedle(fmt.Sprintf("the secret of epoch %d", epoch.Number), raw.Bytes())}, doors
}

// erases reports whether a program was built to have its runtime erase secrets.
func erases(t *testing.T, bin string) bool {
	info, err := buildinfo.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(info.GoVersion, "runtimesecret")
}
