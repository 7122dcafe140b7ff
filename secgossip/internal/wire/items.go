package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

var (
	errItemEmpty     = errors.New("an item is empty")
	errItemTruncated = errors.New("an item is cut off")
)

// appendItem appends one item of a list: its length in two bytes, then itself.
func appendItem(dst, item []byte, most int) ([]byte, error) {
	if len(item) == 0 {
		return dst, errItemEmpty
	}
	if len(item) > most {
		return dst, fmt.Errorf("an item of %d bytes, at most %d: %w", len(item), most, ErrTooLarge)
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(item)))
	return append(dst, item...), nil
}

// nextItem splits the first item off a list.
func nextItem(list []byte, most int) (item, rest []byte, err error) {
	if len(list) < LengthSize {
		return nil, nil, errItemTruncated
	}
	size := int(binary.BigEndian.Uint16(list))
	list = list[LengthSize:]
	switch {
	case size == 0:
		return nil, nil, errItemEmpty
	case size > most:
		return nil, nil, fmt.Errorf("an item of %d bytes, at most %d: %w", size, most, ErrTooLarge)
	case size > len(list):
		return nil, nil, errItemTruncated
	}
	return list[:size:size], list[size:], nil
}
