package handler

// Layer is one of the things that confine handlers.
type Layer struct {
	Name     string
	Enforced bool
	Detail   string
}
