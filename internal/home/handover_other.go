//go:build !unix

package home

import "errors"

// HandOver is for systems with users by number.
func (Home) HandOver(int, int) error { return errors.ErrUnsupported }
