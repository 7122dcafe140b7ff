package rpcauth

// generations is a map that forgets: it holds the last limit keys and up to
// limit older ones, and what was not asked for while limit new keys came is
// gone. The zero value with a limit is ready to use. Not safe for concurrent
// use.
type generations[K comparable, V any] struct {
	limit      int
	young, old map[K]V
}

// get returns key's value and keeps it from being forgotten.
func (g *generations[K, V]) get(key K) (V, bool) {
	if value, ok := g.young[key]; ok {
		return value, true
	}
	value, ok := g.old[key]
	if ok {
		g.put(key, value)
	}
	return value, ok
}

func (g *generations[K, V]) put(key K, value V) {
	if g.young == nil || len(g.young) >= g.limit {
		g.old, g.young = g.young, make(map[K]V)
	}
	g.young[key] = value
}

func (g *generations[K, V]) remove(key K) {
	delete(g.young, key)
	delete(g.old, key)
}
