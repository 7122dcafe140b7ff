package wire

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestEveryFrameTypeTravelsAtItsLimit(t *testing.T) {
	for _, frameType := range allFrames() {
		body := make([]byte, frameType.maxBody())
		if frameType == FrameRefusal {
			body[0] = byte(RefusedBusy)
		}
		var stream bytes.Buffer
		if err := WriteFrame(&stream, frameType, body); err != nil {
			t.Errorf("type %d: %v", frameType, err)
		}
		gotType, got, err := ReadFrame(&stream, frameType)
		if err != nil || gotType != frameType || !bytes.Equal(got, body) {
			t.Errorf("type %d: got type %d, %d bytes (%v), want %d bytes", frameType, gotType, len(got), err, len(body))
		}
		if err := WriteFrame(io.Discard, frameType, append(body, 0)); !errors.Is(err, ErrFrameSize) {
			t.Errorf("type %d: writing a byte more: got %v, want ErrFrameSize", frameType, err)
		}
	}
}

// Only the header is read: the reader of a frame that must not come neither
// waits for its body nor makes room for it.
func TestUnwantedFrameIsRefusedByItsHeader(t *testing.T) {
	for _, test := range []struct {
		name   string
		header []byte
		want   error
	}{
		{"known, not wanted", []byte{byte(FrameRoster), 0, 0, 1, 0}, ErrFrameType},
		{"type zero", []byte{0, 0, 0, 0, 0}, ErrFrameType},
		{"unknown type", []byte{99, 0, 0, 0, 1}, ErrFrameType},
		{"a byte over the limit", []byte{byte(FrameSecret), 0, 0, 0, SecretSize + 1}, ErrFrameSize},
		{"four gigabytes", []byte{byte(FrameSecret), 255, 255, 255, 255}, ErrFrameSize},
		{"an ack that is too long", []byte{byte(FrameAck), 0, 0, 0, AckSize + 1}, ErrFrameSize},
		{"a refusal over the limit", []byte{byte(FrameRefusal), 0, 0, 1, 0}, ErrFrameSize},
	} {
		r := io.MultiReader(bytes.NewReader(test.header), neverRead{t, test.name})
		if frameType, body, err := ReadFrame(r, FrameSecret, FrameAck); !errors.Is(err, test.want) {
			t.Errorf("%s: got type %d, %x, %v, want %v", test.name, frameType, body, err, test.want)
		}
	}
}

type neverRead struct {
	t    *testing.T
	name string
}

func (r neverRead) Read([]byte) (int, error) {
	r.t.Errorf("%s: read past the header", r.name)
	return 0, io.EOF
}

func TestUnknownFrameTypeIsNotReadEvenIfWanted(t *testing.T) {
	if _, _, err := ReadFrame(bytes.NewReader(make([]byte, 5)), 0); !errors.Is(err, ErrFrameType) {
		t.Errorf("got %v, want ErrFrameType", err)
	}
	if err := WriteFrame(io.Discard, 99, nil); !errors.Is(err, ErrFrameType) {
		t.Errorf("writing: got %v, want ErrFrameType", err)
	}
}

func TestRefusalComesBackAsAnError(t *testing.T) {
	want := Refusal{Code: RefusedUnknown, Text: "no epoch 9 here"}
	var stream bytes.Buffer
	if err := WriteFrame(&stream, FrameRefusal, must(t)(want.Append(nil))); err != nil {
		t.Fatal(err)
	}
	_, _, err := ReadFrame(bytes.NewReader(stream.Bytes()), FrameSecret)
	var got Refusal
	if !errors.As(err, &got) || got != want {
		t.Errorf("not wanted: got %v, want %v", err, want)
	}
	if frameType, _, err := ReadFrame(&stream, FrameSecret, FrameRefusal); err != nil || frameType != FrameRefusal {
		t.Errorf("wanted: got type %d, %v, want a frame", frameType, err)
	}
}

func TestRefusalThatDoesNotParseIsAnError(t *testing.T) {
	for _, body := range [][]byte{nil, {0}, {99}, {byte(RefusedBusy), 0xff}} {
		var stream bytes.Buffer
		if err := WriteFrame(&stream, FrameRefusal, body); err != nil {
			t.Fatal(err)
		}
		_, _, err := ReadFrame(&stream, FrameSecret)
		var refusal Refusal
		if err == nil || errors.As(err, &refusal) {
			t.Errorf("%x: got %v, want an error that is no Refusal", body, err)
		}
	}
}

func TestRefusalTextIsEscaped(t *testing.T) {
	r := Refusal{Code: RefusedBusy, Text: "\x1b[2J\nforged line"}
	if want := `refused by the other side (4): "\x1b[2J\nforged line"`; r.Error() != want {
		t.Errorf("got %s, want %s", r.Error(), want)
	}
	if _, err := (Refusal{Code: RefusedBusy, Text: string(make([]byte, MaxRefusalText+1))}).Append(nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("long text: got %v, want ErrTooLarge", err)
	}
}

func TestEndOfStreamIsOnlyInOrderBetweenFrames(t *testing.T) {
	var stream bytes.Buffer
	if err := WriteFrame(&stream, FrameHello, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	raw := stream.Bytes()
	for n := range raw {
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		if _, _, err := ReadFrame(bytes.NewReader(raw[:n]), FrameHello); err != want {
			t.Errorf("%d of %d bytes: got %v, want %v", n, len(raw), err, want)
		}
	}
}

func TestWriteFrameReportsTheWritersError(t *testing.T) {
	for room := range 2 {
		if err := WriteFrame(&shortWriter{room: room}, FrameHello, []byte("hello")); err != io.ErrShortWrite {
			t.Errorf("after %d writes: got %v, want %v", room, err, io.ErrShortWrite)
		}
	}
}

// shortWriter takes room writes and fails the next.
type shortWriter struct{ room int }

func (w *shortWriter) Write(p []byte) (int, error) {
	if w.room == 0 {
		return 0, io.ErrShortWrite
	}
	w.room--
	return len(p), nil
}
