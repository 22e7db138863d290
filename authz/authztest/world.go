package authztest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/txtar"

	"asid-authz/authz"
)

// A Corpus is all worlds and cases of a directory.
type Corpus struct {
	Worlds map[string]*World
	Cases  []*Case // in the order of their files
}

// maxWorlds bounds what an end-to-end run starts: an Envoy and an asid-authz for each.
const maxWorlds = 5

// Load reads dir/worlds/*.txtar and dir/check/*.txtar. Whatever it does not know, in
// any of them, is an error.
func Load(dir string) (*Corpus, error) {
	corpus := &Corpus{Worlds: map[string]*World{}}
	files, err := filepath.Glob(filepath.Join(dir, "worlds", "*.txtar"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 || len(files) > maxWorlds {
		return nil, fmt.Errorf("%d worlds in %s; there must be 1 to %d", len(files), dir, maxWorlds)
	}
	var all []error
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		w, err := parseWorld(strings.TrimSuffix(filepath.Base(file), ".txtar"), text)
		if err != nil {
			all = append(all, fmt.Errorf("%s: %w", file, err))
			continue
		}
		corpus.Worlds[w.Name] = w
	}
	cases, err := loadCases(filepath.Join(dir, "check"))
	all = append(all, err)
	corpus.Cases = cases
	if err := errors.Join(all...); err != nil {
		return nil, err
	}
	for _, c := range cases {
		w := corpus.Worlds[c.World]
		if w == nil {
			all = append(all, fmt.Errorf("%s: no world is named %q", c.File, c.World))
			continue
		}
		if err := w.knows(c); err != nil {
			all = append(all, fmt.Errorf("%s: %w", c.File, err))
		}
	}
	return corpus, errors.Join(all...)
}

// In returns the cases of that world.
func (c *Corpus) In(world string) []*Case {
	return slices.DeleteFunc(slices.Clone(c.Cases), func(c *Case) bool { return c.World != world })
}

// A World is one deployment and its clients: everything that a set of cases shares, so
// that it is started once.
type World struct {
	Name string
	Why  string // what is particular about it

	// Profile is the name of a built-in profile, or, if ProfileText is set, of that one.
	Profile     string
	ProfileText string  // a profile file, or ""
	Base        *string // path that all endpoints stand below; nil: the profile's

	Binding   authz.Binding
	Receivers []authz.ASID
	RulesOff  []string // claim rules that are switched off
	Authority string   // host that clients call
	CRLs      bool     // the deployment has CRLs, of the root and of the issuing CA

	Issuers []IssuerSettings

	// Map is the text of a map file, in which {certificate NAME} stands for the SHA-256
	// of that certificate, in hex.
	Map string

	certificates map[string][]option
	tokens       map[string]tokenTemplate
}

// IssuerSettings are what the deployment knows of one issuer, and the keys that it has.
type IssuerSettings struct {
	Name       string // in the corpus
	Issuer     string // the iss claim
	Audiences  []string
	Algorithms []string
	Keys       []string // ALG/kid
}

type tokenTemplate struct {
	options []option
	claims  object
}

var bindingModes = map[string]authz.BindingMode{"registered": authz.Registered, "certificate": authz.InCertificate}

var places = map[string]authz.Place{
	"cn": authz.PlaceCN, "dns-san": authz.PlaceDNSSAN,
	"serial-number": authz.PlaceSerialNumber, "uid": authz.PlaceUID, "uri-san": authz.PlaceURISAN,
}

// BindingNames returns the world's binding in the words of the configuration: mode, and
// the places of name and ASID, each "" if there is none.
func (w *World) BindingNames() (mode, name, asid string) {
	for word, m := range bindingModes {
		if m == w.Binding.Mode {
			mode = word
		}
	}
	for word, p := range places {
		if p == w.Binding.Name {
			name = word
		}
		if p == w.Binding.ASID {
			asid = word
		}
	}
	return mode, name, asid
}

func parseWorld(name string, text []byte) (*World, error) {
	archive := txtar.Parse(text)
	w := &World{
		Name:         name,
		Why:          strings.TrimSpace(string(archive.Comment)),
		certificates: map[string][]option{},
		tokens:       map[string]tokenTemplate{},
	}
	if w.Why == "" {
		return nil, errors.New("a world begins with a sentence about what is particular about it")
	}
	sections := map[string]bool{}
	for _, section := range archive.Files {
		if sections[section.Name] {
			return nil, fmt.Errorf("section %q stands twice", section.Name)
		}
		sections[section.Name] = true
		data := string(section.Data)
		var err error
		switch symbol, isToken := strings.CutPrefix(section.Name, "token "); {
		case isToken:
			w.tokens[symbol], err = parseTokenTemplate(data)
		case section.Name == "world":
			err = w.parseSettings(data)
		case section.Name == "profile":
			w.ProfileText = data
		case section.Name == "issuers":
			err = eachSymbol(data, w.addIssuer)
		case section.Name == "certificates":
			err = eachSymbol(data, w.addCertificate)
		case section.Name == "map":
			w.Map = data
		default:
			err = errors.New("no such section")
		}
		if err != nil {
			return nil, fmt.Errorf("section %q: %w", section.Name, err)
		}
	}
	for _, name := range []string{"world", "issuers", "certificates", "map"} {
		if !sections[name] {
			return nil, fmt.Errorf("section %q is missing", name)
		}
	}
	return w, nil
}

func (w *World) parseSettings(text string) error {
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		key, value, found := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		if !found || value == "" || seen[key] {
			return fmt.Errorf("%q is not a key, given once, with a value", strings.TrimSpace(line))
		}
		seen[key] = true
		known := true
		switch key {
		case "profile":
			w.Profile = value
		case "base":
			if value == "none" {
				value = ""
			}
			w.Base = &value
		case "binding":
			w.Binding.Mode, known = bindingModes[value]
		case "name":
			w.Binding.Name, known = places[value]
		case "asid":
			w.Binding.ASID, known = places[value]
		case "receivers":
			for _, word := range strings.Fields(value) {
				asid, err := authz.ParseASID(word)
				if err != nil {
					return fmt.Errorf("receivers: %w", err)
				}
				w.Receivers = append(w.Receivers, asid)
			}
		case "rules_off":
			w.RulesOff = strings.Fields(value)
		case "authority":
			w.Authority = value
		case "crls":
			w.CRLs, known = true, value == "yes"
		default:
			known = false
		}
		if !known {
			return fmt.Errorf("no such key or value: %s", strings.TrimSpace(line))
		}
	}
	for _, key := range []string{"profile", "binding", "authority"} {
		if !seen[key] {
			return fmt.Errorf("key %s is missing", key)
		}
	}
	return nil
}

func eachSymbol(text string, add func(name string, options []option) error) error {
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		name, options, err := parseSymbol(line)
		if err != nil {
			return err
		}
		if seen[name] {
			return fmt.Errorf("%s stands twice", name)
		}
		seen[name] = true
		if err := add(name, options); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (w *World) addIssuer(name string, options []option) error {
	i := IssuerSettings{Name: name}
	for _, o := range options {
		switch o.key {
		case "issuer":
			i.Issuer = o.value
		case "audience":
			i.Audiences = append(i.Audiences, o.value)
		case "algorithm":
			i.Algorithms = append(i.Algorithms, o.value)
		case "key":
			i.Keys = append(i.Keys, o.value)
		default:
			return fmt.Errorf("unknown option %q", o.key)
		}
	}
	w.Issuers = append(w.Issuers, i)
	return nil
}

func (w *World) addCertificate(name string, options []option) error {
	if name == "none" {
		return errors.New("none is no certificate")
	}
	w.certificates[name] = options
	return checkKeys(options, certificateKeys...)
}

func parseTokenTemplate(text string) (t tokenTemplate, err error) {
	first, rest, _ := strings.Cut(text, "\n")
	if t.options, err = parseOptions(first); err != nil {
		return t, err
	}
	if t.claims, err = parseObject(rest); err != nil {
		return t, err
	}
	return t, checkKeys(t.options, tokenKeys...)
}

// knows reports whether the symbols and options of c are the world's.
func (w *World) knows(c *Case) error {
	if c.Certificate != "" {
		if _, known := w.certificates[c.Certificate]; !known {
			return fmt.Errorf("world %s has no certificate %q", w.Name, c.Certificate)
		}
		if err := checkKeys(c.certificateOptions, certificateKeys...); err != nil {
			return fmt.Errorf("certificate: %w", err)
		}
	}
	if c.Token == "" {
		return nil
	}
	template, known := w.tokens[c.Token]
	if !known {
		return fmt.Errorf("world %s has no token %q", w.Name, c.Token)
	}
	keys := slices.Clone(tokenKeys)
	for _, m := range template.claims {
		keys = append(keys, m.name)
	}
	if err := checkKeys(c.tokenOptions, keys...); err != nil {
		return fmt.Errorf("token: %w", err)
	}
	return nil
}
