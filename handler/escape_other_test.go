//go:build !linux

package handler

const (
	attackProgram = "secgossip-test-attack"
	stampProgram  = "secgossip-test-stamp"
)

func beAttack() {}

func beStamp() {}
