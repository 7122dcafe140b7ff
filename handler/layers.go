package handler

// Layer is one of the things that confine a handler. Whether it is enforced was
// tried at the handler's rehearsal.
type Layer struct {
	Name     string
	Enforced bool
	Detail   string
}
