//go:build !linux

package handler

const attackProgram = "secgossip-test-attack"

func beAttack() {}
