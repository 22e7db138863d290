package mesh

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// A Record is a line of the audit log, as far as it is looked at here.
type Record struct {
	Schema            int    `json:"schema"`
	Time              string `json:"time"`
	DecisionID        string `json:"decision_id"`
	Decision          string `json:"decision"`
	Reason            string `json:"reason"`
	Profile           string `json:"profile"`
	ASID              string `json:"asid"`
	ODSCode           string `json:"ods_code"`
	Endpoint          string `json:"endpoint"`
	Interaction       string `json:"interaction"`
	MapVersion        uint64 `json:"map_version"`
	CertificateSHA256 string `json:"certificate_sha256"`
	BreakGlass        string `json:"break_glass"`
	RequestID         string `json:"request_id"`
}

// audit follows an audit log.
type audit struct {
	path string

	mu     sync.Mutex
	offset int64
	rest   []byte // of a line that is not complete yet
	byID   map[string]Record
	order  []string
}

func newAudit(path string) *audit { return &audit{path: path, byID: map[string]Record{}} }

// follow reads what was appended since the last time.
func (a *audit) follow() error {
	file, err := os.Open(a.path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	text, err := io.ReadAll(io.NewSectionReader(file, a.offset, 1<<40))
	if err != nil {
		return err
	}
	a.offset += int64(len(text))
	a.rest = append(a.rest, text...)
	for {
		line, rest, complete := bytes.Cut(a.rest, []byte("\n"))
		if !complete {
			return nil
		}
		a.rest = rest
		var r Record
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("the audit log has a line that is no JSON: %q", line)
		}
		if r.DecisionID == "" { // a summary of denials that were not written one by one
			continue
		}
		if _, twice := a.byID[r.DecisionID]; twice {
			return fmt.Errorf("the audit log has two records of decision %s", r.DecisionID)
		}
		a.byID[r.DecisionID] = r
		a.order = append(a.order, r.DecisionID)
	}
}

// find waits for the record of that decision.
func (a *audit) find(id string) (Record, error) {
	for deadline := time.Now().Add(wait); ; time.Sleep(2 * time.Millisecond) {
		a.mu.Lock()
		err := a.follow()
		r, found := a.byID[id]
		a.mu.Unlock()
		switch {
		case err != nil || found:
			return r, err
		case time.Now().After(deadline):
			return Record{}, fmt.Errorf("no record of decision %q", id)
		}
	}
}

// since returns the records that were written after the first n.
func (a *audit) since(n int) ([]Record, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.follow(); err != nil {
		return nil, err
	}
	var all []Record
	for _, id := range a.order[min(n, len(a.order)):] {
		all = append(all, a.byID[id])
	}
	return all, nil
}
