package handler

// permissions are what one handler may have. defaultPermissions are the least.
type permissions struct {
	Network   bool   // the host's network, as the handler's user may use it
	Memory    uint64 // bytes each process can write to
	Processes uint64
	FileSize  uint64 // bytes in one file
	Scratch   uint64 // bytes in all files of the scratch
}

func defaultPermissions() permissions {
	return permissions{Memory: maxMemory, Processes: maxProcesses, FileSize: maxFileSize, Scratch: maxScratch}
}
