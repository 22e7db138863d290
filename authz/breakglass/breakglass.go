// Package breakglass reads the file with which an operator denies a system or a
// certificate at once, or lets an older map be used for a while, past the map and its
// source:
//
//	deny:
//	  asids: ["200000000117"]
//	  certificates: [9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08]
//	max_staleness: {value: 6h, until: 2026-11-24T18:00:00Z}
//	reason: INC-4711, Redis is being restored
//
// All of it may be left out. A file without orders is {}, written out: an empty one is
// what a write that was cut off leaves behind, and would lift a denial.
package breakglass

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"asid-authz/authz"
	"asid-authz/authz/strictyaml"
)

// MaxFile bounds the file, in bytes.
const MaxFile = 2 << 20

// maxReason bounds the text for the log, in bytes.
const maxReason = 500

type file struct {
	Deny struct {
		ASIDs        []asid        `yaml:"asids"`
		Certificates []fingerprint `yaml:"certificates"`
	} `yaml:"deny"`
	MaxStaleness *struct {
		Value duration `yaml:"value"`
		Until instant  `yaml:"until"`
	} `yaml:"max_staleness"`
	Reason reason `yaml:"reason"`
}

// Decode reads the file as it was found at now. name is the file's, for the error, which
// is always a [strictyaml.Problems]. It is accepted as a whole or not at all.
func Decode(name string, text []byte, now time.Time) (*authz.BreakGlass, error) {
	if len(text) > MaxFile {
		return nil, strictyaml.Problems{{File: name, Text: fmt.Sprintf("larger than %d bytes", MaxFile)}}
	}
	var f file
	if err := strictyaml.Decode(name, text, &f); err != nil {
		return nil, err
	}
	o := authz.Orders{Reason: string(f.Reason)}
	var problems strictyaml.Problems
	object := func(text string) { problems = append(problems, strictyaml.Problem{File: name, Text: text}) }
	for _, a := range f.Deny.ASIDs {
		o.ASIDs = append(o.ASIDs, a.ASID)
	}
	for _, c := range f.Deny.Certificates {
		o.Certificates = append(o.Certificates, c)
	}
	if f.MaxStaleness != nil {
		o.MaxStaleness, o.Until = time.Duration(f.MaxStaleness.Value), f.MaxStaleness.Until.Time
		if o.MaxStaleness == 0 {
			object("max_staleness.value is missing: how old the map may be")
		}
		if o.Until.IsZero() {
			object("max_staleness.until is missing: an older map is used up to a stated time, or not at all")
		}
	}
	if problems != nil {
		return nil, problems
	}
	b, err := authz.NewBreakGlass(o, now)
	if err == nil {
		return b, nil
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		object(line)
	}
	return nil, problems
}

// The values are checked where they stand, so that a bad one is reported with its line.
type (
	asid        struct{ authz.ASID }
	fingerprint [32]byte
	duration    time.Duration
	instant     struct{ time.Time }
	reason      string
)

func (v *asid) UnmarshalYAML(n *yaml.Node) (err error) {
	v.ASID, err = authz.ParseASID(scalar(n))
	return err
}

func (v *fingerprint) UnmarshalYAML(n *yaml.Node) error {
	sum, err := authz.ParseFingerprint(scalar(n))
	*v = sum
	return err
}

func (v *duration) UnmarshalYAML(n *yaml.Node) error {
	d, err := time.ParseDuration(scalar(n))
	if err != nil || d <= 0 || d > authz.MaxBreakGlassStaleness {
		return fmt.Errorf("this is a duration like 90m or 6h, of at most %v, not %s", authz.MaxBreakGlassStaleness, authz.Excerpt(scalar(n)))
	}
	*v = duration(d)
	return nil
}

func (v *instant) UnmarshalYAML(n *yaml.Node) (err error) {
	if v.Time, err = time.Parse(time.RFC3339, scalar(n)); err != nil || v.IsZero() {
		return fmt.Errorf("this is a time like 2026-11-24T18:00:00Z, with its zone, not %s", authz.Excerpt(scalar(n)))
	}
	return nil
}

func (v *reason) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode || len(n.Value) > maxReason {
		return errors.New("reason is a text of at most 500 bytes")
	}
	*v = reason(n.Value)
	return nil
}

func scalar(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}
