package main

import (
	"bytes"
	"sync/atomic"
	"time"

	"asid-authz/authz"
	"asid-authz/authz/breakglass"
)

// A breakGlassFile holds the orders of an emergency, kept current from a file. It is an
// authz.BreakGlassSource.
//
// A file that is refused or gone lifts nothing: the denials that were read last hold
// until a file is read that does not say them. They have no largest age, because nothing
// is given by keeping them; the longer bound of the map has one (authz sees to it).
type breakGlassFile struct {
	path string
	held atomic.Pointer[heldBreakGlass]
}

type heldBreakGlass struct {
	orders    *authz.BreakGlass
	text      []byte
	confirmed time.Time
}

// Current implements authz.BreakGlassSource.
func (f *breakGlassFile) Current() (*authz.BreakGlass, time.Time) {
	h := f.held.Load()
	if h == nil {
		return nil, time.Time{}
	}
	return h.orders, h.confirmed
}

func (f *breakGlassFile) load(text []byte, now time.Time) (changed bool, err error) {
	if h := f.held.Load(); h != nil && bytes.Equal(h.text, text) {
		f.held.Store(&heldBreakGlass{h.orders, h.text, now})
		return false, nil
	}
	orders, err := breakglass.Decode(f.path, text, now)
	if err != nil {
		return false, err
	}
	f.held.Store(&heldBreakGlass{orders, text, now})
	return true, nil
}
