package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"asid-authz/authz"
	"asid-authz/authz/profile"
	"asid-authz/authz/strictyaml"
)

// Config is the configuration file, and this struct is its manual: one YAML document,
// read strictly. There is no other way to set anything: no environment variable, no
// flag overrides it. Secrets are never in it, only the paths of files that hold them.
// A relative path is relative to the directory of the configuration file.
//
// Settings that are marked restart are the process's: a changed value takes effect with a
// restart, and the log names it and what stays in force. Those that are marked reload make
// a generation: a changed file is built whole beside the running one and swapped in, or
// refused with the old one kept. The files that it names (map, CA bundle, key sets, server
// certificate) are watched too, each on its own.
type Config struct {
	Listen    ListenConfig   `yaml:"listen" change:"restart"`
	Admin     AdminConfig    `yaml:"admin" change:"restart"`
	Profile   ProfileConfig  `yaml:"profile" change:"reload"`
	Receivers []ASIDValue    `yaml:"receivers" change:"reload"` // The ASIDs that the receiver header (toASID) may name: ours. At least one where the profile has such a header.
	Binding   BindingConfig  `yaml:"binding" change:"reload"`
	Issuers   []IssuerConfig `yaml:"issuers" change:"reload"` // Of the tokens. At least one.
	Map       MapConfig      `yaml:"map"`
	Trust     TrustConfig    `yaml:"trust" change:"reload"`
	Audit     AuditConfig    `yaml:"audit" change:"restart"`
	Limits    LimitsConfig   `yaml:"limits"`

	file string // where it was read from
	text []byte // what was read
}

// ListenConfig says where Envoy reaches the service: over tcp, over unix, or both.
type ListenConfig struct {
	TCP  *TCPConfig  `yaml:"tcp"`
	Unix *UnixConfig `yaml:"unix"`
}

// TCPConfig is a TCP port for Envoy. Whoever can reach it can ask about anybody: so it
// takes mutual TLS, or stays on the loopback.
type TCPConfig struct {
	Address  AddressValue `yaml:"address"`  // host:port
	TLS      *TLSConfig   `yaml:"tls"`      // Left out only on the loopback, or with insecure.
	Insecure bool         `yaml:"insecure"` // No TLS beyond the loopback, because something else guards the port (a service mesh). Written out, or start-up fails.
}

// TLSConfig is mutual TLS 1.3 with Envoy. The files are reloaded when they change.
type TLSConfig struct {
	Certificate PathValue `yaml:"certificate"`  // PEM, the chain that Envoy verifies.
	Key         PathValue `yaml:"key"`          // PEM
	ClientCA    PathValue `yaml:"client_ca"`    // PEM bundle that Envoy's certificate is verified against.
	ClientNames []string  `yaml:"client_names"` // DNS names, one of which Envoy's certificate must have. At least one: without, every certificate of the CA could ask, and a CA for a whole mesh has many.
}

// UnixConfig is a Unix socket for an Envoy on the same host. Its permissions are the
// authentication: it is created with mode 0660.
type UnixConfig struct {
	Path PathValue `yaml:"path"` // At most 103 bytes, which is all that some systems take.
}

// AdminConfig is the HTTP port for operators: /healthz, /readyz and /metrics, and
// nothing else.
type AdminConfig struct {
	Address AddressValue `yaml:"address"` // Default 127.0.0.1:9902.
}

// ProfileConfig picks the protected API.
type ProfileConfig struct {
	Name     string    `yaml:"name"`      // Of a built-in profile: nrl. Either this or file.
	File     PathValue `yaml:"file"`      // Of a profile of one's own; `asid-authz profile show nrl` prints a starting point.
	Base     *string   `yaml:"base"`      // Path that the endpoints stand below, as Envoy sees it: "" or /STU3. Default: the profile's.
	RulesOff []string  `yaml:"rules_off"` // Claim rules of the profile that do not apply here, by name. Logged at every start.
}

// BindingConfig says how a certificate belongs to an ASID. It has no defaults: a wrong
// guess would let one system pass for another.
type BindingConfig struct {
	Mode ModeValue  `yaml:"mode"` // registered: the map says which certificates a system has. certificate: the certificate carries the ASID.
	Name PlaceValue `yaml:"name"` // Where a certificate's name is read: cn (the Spine convention) or dns-san. Never one as a fallback for the other.
	ASID PlaceValue `yaml:"asid"` // Mode certificate only, where the ASID is read: cn, serial-number, uid or uri-san (urn:nhs:asid:<asid>).
}

// IssuerConfig is one issuer of tokens. A key is used only with the issuer that it was
// configured for.
type IssuerConfig struct {
	Issuer            string        `yaml:"issuer"`             // The iss claim, compared byte by byte (CIS2's holds a ":443").
	Audiences         []string      `yaml:"audiences"`          // The aud claim must hold one of them.
	AuthorizedParties []string      `yaml:"authorized_parties"` // azp or client_id must be one of them. At least one of audiences and authorized_parties: a token for somebody else's API must not open this one.
	Algorithms        []string      `yaml:"algorithms"`         // Of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA. At least one; there is no default.
	ClockSkew         DurationValue `yaml:"clock_skew"`         // By how much the issuer's clock may differ. Default 0s.
	MaxKeyAge         DurationValue `yaml:"max_key_age"`        // How long the last good keys are used when no newer ones can be had. Default 24h. Beyond it: keys-unavailable.
	IDTokens          bool          `yaml:"id_tokens"`          // Accept ID tokens too. They say who logged in, not what a client may do: off unless the issuer gives nothing else.
	Keys              KeysConfig    `yaml:"keys"`
}

// KeysConfig says where an issuer's public keys (a JWK set) come from: exactly one of
// file, url and discovery.
type KeysConfig struct {
	File      PathValue     `yaml:"file"`       // With the JWK set, watched.
	URL       string        `yaml:"url"`        // Of the JWK set.
	Discovery string        `yaml:"discovery"`  // Of the issuer; /.well-known/openid-configuration below it names the JWK set.
	CA        PathValue     `yaml:"ca"`         // PEM bundle for url and discovery. Default: the system's.
	AllowHTTP bool          `yaml:"allow_http"` // http instead of https, because something else guards the way. Whoever can answer for the issuer can mint tokens.
	Refresh   DurationValue `yaml:"refresh"`    // How often url and discovery are asked. Default 15m.
}

// MapConfig says where the interaction map comes from.
type MapConfig struct {
	Source       SourceValue   `yaml:"source" change:"restart"`       // file or redis. A changed one is refused until a restart.
	File         PathValue     `yaml:"file" change:"reload"`          // With source file, in the format of `asid-authz map check`.
	Redis        *RedisConfig  `yaml:"redis" change:"restart"`        // With source redis. The map that `asid-authz map apply` publishes.
	MaxStaleness DurationValue `yaml:"max_staleness" change:"reload"` // How old the map may be before nothing is allowed any more. Default 1h: a revoked system can go on for that long if the source cannot be read.
	BreakGlass   PathValue     `yaml:"break_glass" change:"reload"`   // File with the orders of an emergency: ASIDs and certificates that are denied at once, an older map that is used for a while. Without orders it holds {}.
}

// TrustConfig says who issues client certificates, and what they have revoked.
type TrustConfig struct {
	ClientCA  string        `yaml:"client_ca"`   // PEM bundle with every root and intermediate, because Envoy hands on the leaf alone. Or the word trust-envoy: believe that Envoy verified; it must be written out and is logged at every start.
	MaxAge    DurationValue `yaml:"max_age"`     // How long the bundle is used when it cannot be read. Default 1h. Beyond it: trust-unavailable.
	CRL       []PathValue   `yaml:"crl"`         // Files with certificate revocation lists, PEM or DER, one or several each. With one of them every CA in the chain of a certificate needs a list; without: revocation-unknown.
	CRLMaxAge DurationValue `yaml:"crl_max_age"` // How long a list is used when its file cannot be read, is refused, or is past its nextUpdate. Default 24h: a CA that is late must not close the service over a night, and map.break_glass denies a single certificate meanwhile. Beyond it: revocation-unknown.
}

// maxCRLFiles bounds what is held: 16 MiB each.
const maxCRLFiles = 32

// trustEnvoy in place of a file says that client certificates are not verified here.
const trustEnvoy = "trust-envoy"

// AuditConfig says where the decisions are written and which: one JSON object a line, in the
// documented schema, apart from the service's own log (which goes to stderr).
type AuditConfig struct {
	Output       OutputValue `yaml:"output"`        // stdout (default) or file
	File         PathValue   `yaml:"file"`          // With output file: appended to, with mode 0640. Of one process alone.
	MaxSize      SizeValue   `yaml:"max_size"`      // With output file: a file that would become larger is renamed (audit-20261124T090000.000000000Z.jsonl), and a new one begun. Default 100MiB.
	Keep         NumberValue `yaml:"keep"`          // With output file: how many renamed files stay; the oldest are removed. Default 20.
	Allows       AllowsValue `yaml:"allows"`        // all (default), sampled or none: which allows are written. With sampled and none Envoy's access log is the record of the allows. Denials are always written.
	Sample       NumberValue `yaml:"sample"`        // With allows sampled: one allow in so many is written, chosen by its decision_id. Default 100.
	OnFull       OnFullValue `yaml:"on_full"`       // drop (default): a record that cannot be written is lost and counted, and the answer stands. deny: an allow waits until the operating system has its record, 100 ms at most, and is denied (audit-unavailable) if it cannot be written; needs allows all.
	Buffer       SizeValue   `yaml:"buffer"`        // How much waits in memory for an output that takes nothing at the moment; what does not fit is a record that cannot be written. Default 8MiB.
	EarlyDenials NumberValue `yaml:"early_denials"` // How many denials per second and Reason are written while no ASID is bound yet, because anybody can cause them; the others are counted in a summary. Default 50.
}

// LimitsConfig bounds what a process does.
type LimitsConfig struct {
	DrainDelay   DurationValue `yaml:"drain_delay" change:"reload"`   // After SIGTERM, how long the service says NOT_SERVING and goes on answering, so that every Envoy looks elsewhere first: at least its health check interval. Default 5s.
	DrainTimeout DurationValue `yaml:"drain_timeout" change:"reload"` // How long calls in flight are then waited for. Default 10s.

	Checks           CountValue    `yaml:"checks" change:"reload"`              // How many checks may run at once; those beyond it are refused as overloaded. It bounds what waits when something is stuck; a shortage of CPU is found by how long questions wait. Below 2048. Default: 128 for each CPU that the process may use, and at most 1024.
	MaxConnectionAge DurationValue `yaml:"max_connection_age" change:"restart"` // How long a connection of Envoy lasts, give or take a tenth; then Envoy opens another, which is how a new replica gets its share. Default 10m. At least 1s.
}

// loadConfig reads the file, or returns everything that is wrong with it.
func loadConfig(file string) (*Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return decodeConfig(file, text)
}

func decodeConfig(file string, text []byte) (*Config, error) {
	c := &Config{file: file, text: text}
	problems := strictyaml.Problems{}
	if err := strictyaml.Decode(file, text, c); err != nil && !errors.As(err, &problems) {
		return nil, err
	}
	if len(problems) == 0 { // what is missing is worth saying only of a file that could be read
		c.setDefaults()
		for _, text := range c.missing() {
			problems = append(problems, strictyaml.Problem{File: file, Text: text})
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return c, nil
}

func (c *Config) setDefaults() {
	setDefault(&c.Admin.Address, "127.0.0.1:9902")
	setDefault(&c.Map.MaxStaleness, duration(time.Hour))
	setDefault(&c.Trust.MaxAge, duration(time.Hour))
	setDefault(&c.Trust.CRLMaxAge, duration(24*time.Hour))
	setDefault(&c.Audit.Output, "stdout")
	setDefault(&c.Audit.MaxSize, SizeValue{Bytes: 100 << 20})
	setDefault(&c.Audit.Keep, NumberValue{N: 20})
	setDefault(&c.Audit.Allows, "all")
	setDefault(&c.Audit.Sample, NumberValue{N: 100})
	setDefault(&c.Audit.OnFull, "drop")
	setDefault(&c.Audit.Buffer, SizeValue{Bytes: 8 << 20})
	setDefault(&c.Audit.EarlyDenials, NumberValue{N: 50})
	setDefault(&c.Limits.DrainDelay, duration(5*time.Second))
	setDefault(&c.Limits.DrainTimeout, duration(10*time.Second))
	setDefault(&c.Limits.MaxConnectionAge, duration(10*time.Minute))
	for i := range c.Issuers {
		setDefault(&c.Issuers[i].MaxKeyAge, duration(24*time.Hour))
		setDefault(&c.Issuers[i].Keys.Refresh, duration(15*time.Minute))
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// missing returns what a file must say and does not, and what it must not say together.
// What only the package that uses a value can judge, that package says.
func (c *Config) missing() (texts []string) {
	object := func(bad bool, format string, args ...any) {
		if bad {
			texts = append(texts, fmt.Sprintf(format, args...))
		}
	}
	object(c.Listen.TCP == nil && c.Listen.Unix == nil, "listen: say tcp or unix: Envoy must reach the service")
	if tcp := c.Listen.TCP; tcp != nil {
		object(tcp.Address == "", "listen.tcp.address is missing: host:port")
		object(tcp.TLS == nil && !tcp.Insecure && !tcp.Address.loopback(),
			"listen.tcp.tls is missing: without TLS the port stays on the loopback (127.0.0.1), unless listen.tcp.insecure is true")
		object(tcp.TLS != nil && tcp.Insecure, "listen.tcp: insecure and tls exclude each other")
		if tls := tcp.TLS; tls != nil {
			object(tls.Certificate == "" || tls.Key == "", "listen.tcp.tls: certificate and key are needed")
			object(tls.ClientCA == "", "listen.tcp.tls.client_ca is missing: only Envoy may ask, so its certificate is verified")
			object(len(tls.ClientNames) == 0, "listen.tcp.tls.client_names is missing: name the DNS name of Envoy's certificate, or every holder of a certificate of that CA could ask")
		}
	}
	if unix := c.Listen.Unix; unix != nil {
		object(unix.Path == "", "listen.unix.path is missing")
	}
	object((c.Profile.Name == "") == (c.Profile.File == ""), "profile: say either name (of %s) or file", strings.Join(profile.Names(), ", "))
	object(c.Binding.Mode == 0, "binding.mode is missing: registered or certificate")
	object(len(c.Issuers) == 0, "issuers is missing: at least one issuer of tokens")
	for i, issuer := range c.Issuers {
		sources := 0
		for _, source := range []string{string(issuer.Keys.File), issuer.Keys.URL, issuer.Keys.Discovery} {
			if source != "" {
				sources++
			}
		}
		object(sources != 1, "issuers[%d].keys: say exactly one of file, url and discovery", i)
		object(issuer.Keys.File != "" && (issuer.Keys.CA != "" || issuer.Keys.AllowHTTP), "issuers[%d].keys: ca and allow_http belong to url and discovery", i)
	}
	object(c.Map.Source == "", "map.source is missing: file or redis")
	object(c.Map.Source == "file" && c.Map.File == "", "map.file is missing")
	object(c.Map.Source == "file" && c.Map.Redis != nil, "map.redis belongs to map.source: redis")
	object(c.Map.Source == "redis" && c.Map.Redis == nil, "map.redis is missing: where the server is")
	object(c.Map.Source == "redis" && c.Map.File != "", "map.file belongs to map.source: file")
	if c.Map.Redis != nil {
		texts = append(texts, c.Map.Redis.missing("map.redis.")...)
	}
	object(c.Trust.ClientCA == "", "trust.client_ca is missing: the bundle that issued the client certificates (or, written out, %s)", trustEnvoy)
	object(c.Trust.ClientCA == trustEnvoy && len(c.Trust.CRL) > 0, "trust.crl: with client_ca: %s no certificate is verified here, and no CRL either; name the bundle", trustEnvoy)
	object(len(c.Trust.CRL) > maxCRLFiles, "trust.crl: at most %d files", maxCRLFiles)
	for i, file := range c.Trust.CRL {
		object(slices.Contains(c.Trust.CRL[:i], file), "trust.crl: %s stands twice", authz.Excerpt(string(file)))
	}
	object(c.Audit.Output == "file" && c.Audit.File == "", "audit.file is missing")
	object(c.Audit.Output == "stdout" && (c.Audit.File != "" || c.Audit.MaxSize.written || c.Audit.Keep.written), "audit: file, max_size and keep belong to output: file")
	object(c.Audit.Allows != "sampled" && c.Audit.Sample.written, "audit.sample belongs to audit.allows: sampled")
	object(c.Audit.Allows != "all" && c.Audit.OnFull == "deny", "audit.on_full: deny lets no allow go unrecorded, so it needs audit.allows: all")
	object(c.Audit.Buffer.Bytes < 64<<10, "audit.buffer is less than 64KiB")
	object(c.Limits.Checks >= maxStreams, "limits.checks is below %d", maxStreams)
	object(c.Limits.MaxConnectionAge.Duration < time.Second, "limits.max_connection_age is at least 1s")
	return texts
}

// checks returns how many checks may run at once.
func (l LimitsConfig) checks() int {
	if l.Checks != 0 {
		return int(l.Checks)
	}
	return min(128*runtime.GOMAXPROCS(0), 1024)
}

// path returns the absolute form of a path in the file.
func (c *Config) path(p PathValue) string {
	if filepath.IsAbs(string(p)) {
		return string(p)
	}
	return filepath.Join(filepath.Dir(c.file), string(p))
}

// The values below are scalars that are checked where they stand, so that a bad one is
// reported with its line.
type (
	ASIDValue    struct{ authz.ASID }
	AddressValue string
	CountValue   int
	ModeValue    authz.BindingMode
	OutputValue  string
	PathValue    string
	PlaceValue   authz.Place
	SourceValue  string
)

// A DurationValue knows whether it was written down: 0s is a wish, nothing is none.
type DurationValue struct {
	time.Duration
	set bool
}

func duration(d time.Duration) DurationValue { return DurationValue{d, true} }

func (v *ASIDValue) UnmarshalYAML(n *yaml.Node) (err error) {
	v.ASID, err = authz.ParseASID(scalar(n))
	return err
}

func (v *AddressValue) UnmarshalYAML(n *yaml.Node) error {
	if _, _, err := net.SplitHostPort(scalar(n)); err != nil {
		return fmt.Errorf("an address is host:port, not %s", authz.Excerpt(scalar(n)))
	}
	*v = AddressValue(scalar(n))
	return nil
}

// loopback reports whether nobody but this host can reach the address.
func (v AddressValue) loopback() bool {
	host, _, _ := net.SplitHostPort(string(v))
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func (v *CountValue) UnmarshalYAML(n *yaml.Node) error {
	count, err := strconv.ParseUint(scalar(n), 10, 31)
	if err != nil || count == 0 {
		return fmt.Errorf("a count is a whole number from 1, not %s", authz.Excerpt(scalar(n)))
	}
	*v = CountValue(count)
	return nil
}

func (v *DurationValue) UnmarshalYAML(n *yaml.Node) error {
	d, err := time.ParseDuration(scalar(n))
	if err != nil || d < 0 {
		return fmt.Errorf("a duration is like 90s, 15m or 1h, not %s", authz.Excerpt(scalar(n)))
	}
	*v = duration(d)
	return nil
}

func (v *ModeValue) UnmarshalYAML(n *yaml.Node) error {
	return oneOf(n, v, map[string]ModeValue{"registered": ModeValue(authz.Registered), "certificate": ModeValue(authz.InCertificate)}, "registered or certificate")
}

func (v *PlaceValue) UnmarshalYAML(n *yaml.Node) error {
	return oneOf(n, v, map[string]PlaceValue{
		"cn": PlaceValue(authz.PlaceCN), "dns-san": PlaceValue(authz.PlaceDNSSAN), "serial-number": PlaceValue(authz.PlaceSerialNumber),
		"uid": PlaceValue(authz.PlaceUID), "uri-san": PlaceValue(authz.PlaceURISAN),
	}, "cn, dns-san, serial-number, uid or uri-san")
}

func (v *OutputValue) UnmarshalYAML(n *yaml.Node) error {
	return oneOf(n, v, map[string]OutputValue{"stdout": "stdout", "file": "file"}, "stdout or file")
}

func (v *SourceValue) UnmarshalYAML(n *yaml.Node) error {
	return oneOf(n, v, map[string]SourceValue{"file": "file", "redis": "redis"}, "file or redis")
}

func (v *PathValue) UnmarshalYAML(n *yaml.Node) error {
	if scalar(n) == "" || strings.ContainsRune(scalar(n), 0) {
		return errors.New("a path is missing")
	}
	*v = PathValue(scalar(n))
	return nil
}

func oneOf[T any](n *yaml.Node, v *T, values map[string]T, want string) error {
	value, known := values[scalar(n)]
	if !known {
		return fmt.Errorf("this is %s, not %s", want, authz.Excerpt(scalar(n)))
	}
	*v = value
	return nil
}

// scalar returns the text of a scalar as it is written, "" for a list or a mapping.
func scalar(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}
