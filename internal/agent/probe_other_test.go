//go:build !linux

package agent

func probe() {}
