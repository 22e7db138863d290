package cache

import (
	"errors"

	"go.yaml.in/yaml/v4"
)

// The file as it is written. Values keep their lines, because most of what can be wrong
// with a map is known only after all of it was read.
type (
	fileNode struct {
		At      fileMapping  `yaml:",inline"`
		Format  scalar       `yaml:"format"`
		Sets    setNodes     `yaml:"sets"`
		Systems []systemNode `yaml:"systems"`
	}
	systemNode struct {
		At           systemMapping `yaml:",inline"`
		ASID         scalar        `yaml:"asid"`
		Name         scalar        `yaml:"name"`
		ODS          scalar        `yaml:"ods"`
		PartyKey     scalar        `yaml:"party_key"`
		FQDNs        []scalar      `yaml:"fqdns"`
		Certificates []scalar      `yaml:"certificates"`
		TokenClients []scalar      `yaml:"token_clients"`
		State        scalar        `yaml:"state"`
		Interactions []scalar      `yaml:"interactions"`
	}
	setNode struct {
		name  scalar
		items []scalar
		empty bool
	}
)

// A scalar is a value as it is written, whatever YAML would make of it: NO is no
// boolean and 1E5 no number. The zero scalar, of line 0, was not written.
type scalar struct {
	text string
	line int
}

func (s *scalar) UnmarshalYAML(n *yaml.Node) error {
	switch n.Kind {
	case yaml.ScalarNode:
		s.text, s.line = n.Value, n.Line
		return nil
	case yaml.SequenceNode:
		return errors.New("this must be text, not a list")
	}
	return errors.New("this must be text, not a mapping")
}

// fileMapping and systemMapping see the mapping that a struct is read from: they know
// where it stands, and which keys are missing.
type (
	fileMapping   struct{ systems int } // line of that key
	systemMapping struct{ line int }
)

func (m *fileMapping) UnmarshalYAML(n *yaml.Node) error {
	m.systems = keyLine(n, "systems")
	return require(n, "format", "systems")
}

func (m *systemMapping) UnmarshalYAML(n *yaml.Node) error {
	m.line = n.Line
	return require(n, "asid", "ods", "state", "interactions")
}

// keyLine returns the line of a key of a mapping, or 0.
func keyLine(n *yaml.Node, key string) int {
	for i := 0; i < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i].Line
		}
	}
	return 0
}

func require(n *yaml.Node, keys ...string) error {
	var all []error
	for _, key := range keys {
		switch {
		case keyLine(n, key) != 0:
		case key == "interactions":
			all = append(all, errors.New("interactions is missing: write [] for a system that may do nothing"))
		default:
			all = append(all, errors.New(key+" is missing"))
		}
	}
	return errors.Join(all...)
}

// setNodes are the sets in the order of the file.
type setNodes []setNode

func (s *setNodes) UnmarshalYAML(n *yaml.Node) error {
	var byName map[string][]scalar
	err := n.Load(&byName)
	if n.Kind != yaml.MappingNode {
		return err
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		*s = append(*s, setNode{
			name:  scalar{key.Value, key.Line},
			items: byName[key.Value],
			empty: value.Kind == yaml.SequenceNode && len(value.Content) == 0,
		})
	}
	return err
}
