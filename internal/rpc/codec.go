package rpc

import (
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/connect/v2/connectproto"
)

// codecs returns protobuf and a strict JSON.
//
// Connect's own JSON drops unknown fields, so that {"dryrun": true} would rotate
// the keys. Ours refuses them, and writes names as agent.proto and the commands
// spell them, zero values included, so that scripts find every field.
func codecs() connecthttp.Option {
	json := connectproto.NewJSONCodec()
	json.UnmarshalOptions.DiscardUnknown = false
	json.MarshalOptions.UseProtoNames = true
	json.MarshalOptions.EmitDefaultValues = true
	return connecthttp.WithCodecs(connectproto.NewBinaryCodec(), json)
}
