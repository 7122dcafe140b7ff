package handler

// permissions are what one handler may have.
type permissions struct {
	Network   bool   // the host's network, as the handler's user may use it
	Memory    uint64 // bytes each process can write to
	Processes uint64
	FileSize  uint64 // bytes in one file
	Scratch   uint64 // bytes in all files of the scratch
}

// permissions are those of its settings.
func (s Settings) permissions() permissions {
	return permissions{
		Network: s.Network, Memory: s.Memory, Processes: uint64(s.Processes), FileSize: s.FileSize, Scratch: maxScratch,
	}
}
