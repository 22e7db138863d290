package cache

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"asid-authz/authz"
)

// An Oracle knows what was published, by the account of those who published it, and judges
// what replicas serve. The histories over the fake server and those over real ones ask the
// same one.
type Oracle struct {
	mu           sync.Mutex
	versions     map[uint64]map[string]string // ASID → entry, as described says it
	acknowledged map[uint64]time.Time         // when a publisher was told so; not of versions that a server lost
}

func NewOracle() *Oracle {
	return &Oracle{versions: map[uint64]map[string]string{}, acknowledged: map[uint64]time.Time{}}
}

// Published says what a version is. It may come later than a replica shows it.
func (o *Oracle) Published(version uint64, c Content) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.versions[version] = c.described()
}

// Acknowledged says that a publisher was told that a version is published: whoever asks
// after that and is told of nothing newer must hold it.
func (o *Oracle) Acknowledged(version uint64, at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.acknowledged[version] = at
}

// Lost says that a server is about to lose all that came after a version.
func (o *Oracle) Lost(after uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	maps.DeleteFunc(o.acknowledged, func(version uint64, _ time.Time) bool { return version > after })
}

func (o *Oracle) version(v uint64) (m map[string]string, known bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	m, known = o.versions[v]
	return m, known
}

// newerThan returns a version above one that was acknowledged before a moment, or 0.
func (o *Oracle) newerThan(version uint64, at time.Time) uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	for v, told := range o.acknowledged {
		if v > version && told.Before(at) {
			return v
		}
	}
	return 0
}

// grantedAgain reports whether a version above one, and not above another, has a grant.
func (o *Oracle) grantedAgain(grant string, above, until uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for v, m := range o.versions {
		if v > above && v <= until && grantsOf(m)[grant] {
			return true
		}
	}
	return false
}

// A Witness has seen all that one replica has shown since it was started. One goroutine at
// a time may use it.
type Witness struct {
	oracle *Oracle
	last   *authz.InteractionMap
	grants map[string]bool   // of last
	taken  map[string]uint64 // what it has seen being granted and then not: the version that took it
	shown  int               // versions
	early  []sight           // seen before the oracle was told
}

type sight struct {
	version uint64
	content map[string]string
	again   map[string]uint64 // grants that an older version had taken: which
}

func (o *Oracle) Witness() *Witness { return &Witness{oracle: o, taken: map[string]uint64{}} }

// Look takes what a replica shows now, and returns what is wrong with that: a map that is
// none of the versions that were published, one that is older than one that was there
// before, one that gives back what a version took away before another one granted it, and
// a confirmation by which nothing newer was there although something was.
func (w *Witness) Look(m *authz.InteractionMap, confirmed time.Time) error {
	switch {
	case m == nil && w.last != nil:
		return errors.New("there is no map any more")
	case m == nil:
		return nil
	case w.last != nil && m.Version() < w.last.Version():
		return fmt.Errorf("version %d after version %d", m.Version(), w.last.Version())
	}
	if v := w.oracle.newerThan(m.Version(), confirmed); v != 0 {
		return fmt.Errorf("version %d is confirmed at %v, and version %d was published then", m.Version(), confirmed, v)
	}
	if m == w.last {
		return nil
	}
	s := sight{m.Version(), described(m), map[string]uint64{}}
	grants := grantsOf(s.content)
	for g := range w.grants {
		if !grants[g] {
			w.taken[g] = s.version
		}
	}
	for g := range grants {
		if version, was := w.taken[g]; was {
			s.again[g] = version
			delete(w.taken, g)
		}
	}
	if w.last == nil || w.last.Version() < s.version {
		w.shown++
	}
	w.last, w.grants = m, grants
	if _, known := w.oracle.version(s.version); !known {
		w.early = append(w.early, s)
		return nil
	}
	return w.judge(s)
}

// Versions returns how many versions were shown.
func (w *Witness) Versions() int { return w.shown }

func (w *Witness) judge(s sight) error {
	want, known := w.oracle.version(s.version)
	if !known {
		return fmt.Errorf("version %d was never published: %v", s.version, s.content)
	}
	if !maps.Equal(s.content, want) {
		return fmt.Errorf("version %d is not what was published: %s", s.version, differences(s.content, want))
	}
	for g, taken := range s.again {
		if !w.oracle.grantedAgain(g, taken, s.version) {
			return fmt.Errorf("version %d allows %s, which version %d had revoked, and nothing granted it since", s.version, g, taken)
		}
	}
	return nil
}

// Settle judges what was seen before the oracle was told what it is.
func (w *Witness) Settle() error {
	var all []error
	for _, s := range w.early {
		all = append(all, w.judge(s))
	}
	w.early = nil
	return errors.Join(all...)
}

// differences says where two maps differ.
func differences(got, want map[string]string) string {
	var b strings.Builder
	union := maps.Clone(got)
	maps.Copy(union, want)
	for _, asid := range slices.Sorted(maps.Keys(union)) {
		if got[asid] != want[asid] {
			fmt.Fprintf(&b, "\n%s is %q, want %q", asid, got[asid], want[asid])
		}
	}
	return b.String()
}

// grantsOf returns what a map, as described says it, lets active systems do.
func grantsOf(m map[string]string) map[string]bool {
	all := map[string]bool{}
	for asid, entry := range m {
		fields := strings.Fields(strings.NewReplacer("[", "", "]", "").Replace(entry)) // ODS code, state, ids
		if len(fields) < 2 || fields[1] != authz.Active.String() {
			continue
		}
		for _, id := range fields[2:] {
			all[asid+" "+id] = true
		}
	}
	return all
}
