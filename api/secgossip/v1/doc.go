// Package secgossipv1 is the RPC contract between an agent and its operators.
//
// The contract is agent.proto; everything else in this directory is generated
// from it and committed, so that building the product needs no generator. After
// a change to agent.proto run, anywhere in the repository,
//
//	go generate ./api/...
//
// which lints the contract and writes the Go code anew. Nothing has to be
// installed for that; the first run builds buf, which takes a minute or two.
package secgossipv1

//go:generate go -C ../.. tool -modfile=../tools/buf/go.mod buf lint
//go:generate go -C ../.. tool -modfile=../tools/buf/go.mod buf generate
