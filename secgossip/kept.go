package secgossip

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"github.com/secgossip/secgossip/pki"
)

// What a node keeps in its state folder is read again after power cuts, full disks
// and mistakes of people who copy folders. A kept file therefore says whose it is and
// has a checksum: a mark, the cluster id, SHA-256 of the cluster id and the content,
// the content. The checksum is against damage. Whoever can write there is root or us.

// keptMark begins a kept file.
const keptMark = "sgkept1\n"

const keptHeader = len(keptMark) + 32 + sha256.Size

// errDamaged says that a kept file is not as it was written.
var errDamaged = errors.New("damaged")

// writeKept replaces a kept file in one step.
func writeKept(path string, cluster pki.ClusterID, content []byte) error {
	return writeFile(path, append(keptHead(cluster, content), content...))
}

func keptHead(cluster pki.ClusterID, content []byte) []byte {
	sum := sha256.Sum256(append(bytes.Clone(cluster[:]), content...))
	return append(append([]byte(keptMark), cluster[:]...), sum[:]...)
}

// readKept returns the content of a kept file of at most limit bytes. Errors:
// fs.ErrNotExist, errDamaged, pki.ErrForeign.
func readKept(path string, cluster pki.ClusterID, limit int) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, int64(keptHeader+limit)+1))
	if err != nil {
		return nil, err
	}
	if len(raw) < keptHeader || len(raw) > keptHeader+limit {
		return nil, fmt.Errorf("%s: %w: %d bytes", path, errDamaged, len(raw))
	}
	content := raw[keptHeader:]
	whose := pki.ClusterID(raw[len(keptMark):])
	if !bytes.Equal(raw[:keptHeader], keptHead(whose, content)) {
		return nil, fmt.Errorf("%s: %w: its checksum is another one", path, errDamaged)
	}
	if whose != cluster {
		return nil, fmt.Errorf("%s: %w: of %s, and this is %s; move the file away, or use the home that it belongs to",
			path, pki.ErrForeign, whose, cluster)
	}
	return content, nil
}

// loadKept has a kept file read by parse. A file that is not there is no error. One
// that does not read is put aside as NAME.bad, for whoever wants to know why, and said
// once: the next start has none. Only another cluster's is an error, since then this
// is not the folder that somebody meant.
func (n *Node) loadKept(path string, limit int, parse func([]byte) error) error {
	return loadKept(path, n.config.Trust.Cluster(), limit, n.logger, parse)
}

func loadKept(path string, cluster pki.ClusterID, limit int, logger *slog.Logger, parse func([]byte) error) error {
	content, err := readKept(path, cluster, limit)
	if err == nil {
		if err = parse(content); err != nil {
			err = fmt.Errorf("%s: %w: %w", path, errDamaged, err)
		}
	}
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, pki.ErrForeign):
		return err
	case errors.Is(err, errDamaged):
		err = errors.Join(err, os.Rename(path, path+".bad"))
		logger.Warn("a kept file is put aside as .bad: what it held is not known any more", slog.Any("error", err))
	default:
		logger.Warn("reading a kept file", slog.Any("error", err))
	}
	return nil
}
