package layout

import (
	"fmt"
	"strconv"

	"asid-authz/authz"
)

// A Manifest says what is published. It is a hash, and each of its fields is a text:
//
//	layout      1
//	generation  number of the generation whose dictionary and buckets are the map
//	version     of the map; it only rises
//	tip         digest of the log at version
//	ids         tally of the dictionary
//	suspended   tally of the suspension layer
//	00 … ff     tally of each bucket; one that is empty may be left out
//
// Every change writes what it changes and the manifest's fields in one transaction.
type Manifest struct {
	Head
	IDs       Tally
	Suspended Tally
	Buckets   [Buckets]Tally
}

// A Head says which map it is, in a few bytes.
type Head struct {
	Generation uint64
	Version    uint64
	Tip        Digest
}

// HeadFields are the fields of the manifest that a Head is parsed from, in the order in
// which ParseHead takes their values.
func HeadFields() []string { return []string{"layout", "generation", "version", "tip"} }

// Fields of the manifest that are not a bucket's and not the head's.
const (
	FieldIDs       = "ids"
	FieldSuspended = "suspended"
)

// A NewerLayoutError says that the map was moved to a layout that this release does not
// know. A publisher of that layout says so in the manifest of the old one.
type NewerLayoutError struct{ Layout string }

func (e NewerLayoutError) Error() string {
	return fmt.Sprintf("the map has layout %s, and this release reads layout %d: upgrade it", authz.Excerpt(e.Layout), Version)
}

// ErrNothingPublished says that there is no manifest.
var ErrNothingPublished = fmt.Errorf("nothing is published: there is no manifest")

// ParseHead takes the values of HeadFields as HMGET returns them.
func ParseHead(values []any) (h Head, err error) {
	texts := [4]string{}
	present := 0
	for i, value := range values {
		if text, is := value.(string); is && i < len(texts) {
			texts[i] = text
			present++
		}
	}
	if present == 0 {
		return h, ErrNothingPublished
	}
	if texts[0] != strconv.Itoa(Version) {
		if texts[0] == "" {
			return h, fmt.Errorf("the manifest says no layout")
		}
		return h, NewerLayoutError{texts[0]}
	}
	if h.Generation, err = parseNumber(texts[1]); err != nil {
		return h, fmt.Errorf("manifest: generation: %w", err)
	}
	if h.Version, err = parseNumber(texts[2]); err != nil {
		return h, fmt.Errorf("manifest: version: %w", err)
	}
	if h.Tip, err = ParseDigest(texts[3]); err != nil {
		return h, fmt.Errorf("manifest: tip: %w", err)
	}
	if h.Version == 0 || h.Generation == 0 {
		return h, fmt.Errorf("manifest: version and generation are at least 1")
	}
	return h, nil
}

// ParseManifest takes the fields as HGETALL returns them.
func ParseManifest(fields map[string]string) (*Manifest, error) {
	values := make([]any, 0, 4)
	for _, name := range HeadFields() {
		if text, there := fields[name]; there {
			values = append(values, text)
		} else {
			values = append(values, nil)
		}
	}
	m := &Manifest{}
	var err error
	if m.Head, err = ParseHead(values); err != nil {
		return nil, err
	}
	for field, into := range map[string]*Tally{FieldIDs: &m.IDs, FieldSuspended: &m.Suspended} {
		if *into, err = ParseTally(fields[field]); err != nil {
			return nil, fmt.Errorf("manifest: %s: %w", field, err)
		}
	}
	systems := 0
	for b := range m.Buckets {
		text, there := fields[BucketName(byte(b))]
		if !there {
			continue
		}
		if m.Buckets[b], err = ParseTally(text); err != nil {
			return nil, fmt.Errorf("manifest: %s: %w", BucketName(byte(b)), err)
		}
		systems += m.Buckets[b].Count
	}
	if systems > MaxSystems || m.IDs.Count > MaxIDs || m.Suspended.Count > MaxSystems {
		return nil, fmt.Errorf("manifest: more than %d systems or %d interactions", MaxSystems, MaxIDs)
	}
	return m, nil
}

// Fields returns all fields, as HSET takes them.
func (m *Manifest) Fields() map[string]string {
	fields := map[string]string{
		"layout":       strconv.Itoa(Version),
		"generation":   strconv.FormatUint(m.Generation, 10),
		"version":      strconv.FormatUint(m.Version, 10),
		"tip":          m.Tip.String(),
		FieldIDs:       m.IDs.String(),
		FieldSuspended: m.Suspended.String(),
	}
	for b, t := range m.Buckets {
		if t.Count > 0 {
			fields[BucketName(byte(b))] = t.String()
		}
	}
	return fields
}

// Systems returns the number of systems.
func (m *Manifest) Systems() (n int) {
	for _, t := range m.Buckets {
		n += t.Count
	}
	return n
}
