package layout

import (
	"encoding/json"
	"time"
)

// A Suspension is the value of the suspension layer, a JSON object: who suspended a
// system, when and why. What matters to a replica is that the ASID has one; it does not
// read it.
type Suspension struct {
	By     string    `json:"by"`
	Time   time.Time `json:"time"`
	Reason string    `json:"reason"`
}

// Encode returns the value.
func (s Suspension) Encode() string { return encodeJSON(s) }

// DecodeSuspension accepts what Encode returns.
func DecodeSuspension(text string) (s Suspension, err error) {
	err = json.Unmarshal([]byte(text), &s)
	return s, err
}

// A Record is what the history keeps of a change: field "record" of an entry of the
// stream, a JSON object. What the change replaced is in the undo list of its version: one
// or more gzip-compressed JSON objects, see UndoChunk.
type Record struct {
	Version uint64    `json:"version"`
	Before  uint64    `json:"before"` // the version that it changed; 0: nothing was published
	Time    time.Time `json:"time"`
	By      string    `json:"by"`
	Reason  string    `json:"reason"`
	Action  string    `json:"action"`         // apply, repair, suspend, resume, rollback, promote
	ASID    string    `json:"asid,omitempty"` // that was suspended or resumed

	Systems int `json:"systems"` // in the map after it
	Added   int `json:"added"`
	Removed int `json:"removed"`
	Changed int `json:"changed"`

	UndoBytes int `json:"undo_bytes"` // of the undo list; 0: there is none, and if systems changed, nobody can roll back beyond it
	UndoTotal int `json:"undo_total"` // of the undo lists of all changes up to this one: the difference of two says what lies between them
}

// Encode returns the value of the field.
func (r Record) Encode() string { return encodeJSON(r) }

// DecodeRecord accepts what Encode returns.
func DecodeRecord(text string) (r Record, err error) {
	err = json.Unmarshal([]byte(text), &r)
	return r, err
}

// An UndoChunk is a part of what a change replaced.
type UndoChunk struct {
	Systems []UndoSystem `json:"systems,omitempty"` // as they were before
	Absent  []string     `json:"absent,omitempty"`  // ASIDs that were not there
}

// An UndoSystem is an entry with its interactions written out: a later generation numbers
// them anew. The names are those of a map file.
type UndoSystem struct {
	ASID         string   `json:"asid"`
	Name         string   `json:"name,omitempty"`
	ODS          string   `json:"ods"`
	PartyKey     string   `json:"party_key,omitempty"`
	FQDNs        []string `json:"fqdns,omitempty"`
	Certificates []string `json:"certificates,omitempty"`
	TokenClients []string `json:"token_clients,omitempty"`
	State        string   `json:"state"`
	Interactions []string `json:"interactions"`
}

func encodeJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // texts, numbers and times: it cannot fail
	}
	return string(b)
}
