package transport

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"

	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
)

// memberlist's messages, as guard's tests show it to write them.

// genuine are packets that memberlist wrote: a probe, an answer, a compound of a
// probe and a suspicion, and three births under a checksum.
var genuine = func() [][]byte {
	var all [][]byte
	for _, text := range []string{
		"0085a44e6f6465a162a55365714e6f01aa536f7572636541646472b0fd028d5531cc86d27c2844bc3423abd8aa536f757263654e6f6465a164aa536f75726365506f7274cd1f0a",
		"0282a75061796c6f6164c0a55365714e6f01",
		"07020047001d0085a44e6f6465a162a55365714e6f07aa536f7572636541646472b0fd028d5531cc86d27c2844bc3423abd8aa536f757263654e6f6465a164aa536f75726365506f7274cd1f0a" +
			"0383a446726f6da164ab496e6361726e6174696f6e02a44e6f6465a161",
		"0c810df04e07030045004500450486a441646472b0fd028d5531cc86d27c2844bc3423abd8ab496e6361726e6174696f6e01a44d657461c0a44e6f6465a164a4506f7274cd1f0aa356736ea601050200" +
			"00000486a441646472b0fd6c20ca97574a728cfe4a2c56ce7e7eab496e6361726e6174696f6e01a44d657461c0a44e6f6465a162a4506f7274cd1f0aa356736ea60105020000000486a441646472b0" +
			"fde7e6fb88340e55e48e17b8e872de59ab496e6361726e6174696f6e01a44d657461c0a44e6f6465a161a4506f7274cd1f0aa356736ea6010502000000",
	} {
		packet, err := hex.DecodeString(text)
		if err != nil {
			panic(err)
		}
		all = append(all, packet)
	}
	return all
}()

func encoded(kind byte, message any) []byte {
	out := []byte{}
	if err := codec.NewEncoderBytes(&out, new(codec.MsgpackHandle)).Encode(message); err != nil {
		panic(err)
	}
	return append([]byte{kind}, out...)
}

// ackOf is memberlist's answer to a probe: the simplest packet.
func ackOf(number uint32) []byte {
	return encoded(2, struct {
		SeqNo   uint32
		Payload []byte
	}{SeqNo: number})
}

// pingBy asks for an answer to the node it names.
func pingBy(asker string) []byte {
	return encoded(0, struct {
		SeqNo      uint32
		Node       string
		SourceAddr []byte `codec:",omitempty"`
		SourcePort uint16 `codec:",omitempty"`
		SourceNode string `codec:",omitempty"`
	}{1, "b", make([]byte, 16), guard.VirtualPort, asker})
}

// aliveOf says that a node is there.
func aliveOf(c *cluster, name pki.Name) []byte {
	return encoded(4, struct {
		Incarnation uint32
		Node        string
		Addr        []byte
		Port        uint16
		Meta        []byte
		Vsn         []uint8
	}{1, string(name), guard.VirtualAddr(c.root.Trust().Cluster(), name).Addr().AsSlice(), guard.VirtualPort, nil, []byte{1, 5, 2, 1, 1, 1}})
}

// deadBy says that a node is dead; by itself means that it left.
func deadBy(name, accuser pki.Name) []byte {
	return encoded(5, struct {
		Incarnation uint32
		Node        string
		From        string
	}{1, string(name), string(accuser)})
}

func compound(parts ...[]byte) []byte {
	out := []byte{7, byte(len(parts))}
	for _, part := range parts {
		out = binary.BigEndian.AppendUint16(out, uint16(len(part)))
	}
	return append(out, bytes.Join(parts, nil)...)
}
