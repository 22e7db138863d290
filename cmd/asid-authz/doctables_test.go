package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
	"asid-authz/authz/profile"
	"asid-authz/cache"
	"asid-authz/cache/conn"
	"asid-authz/cache/layout"
	"asid-authz/envoy"
)

// documented returns every table of the documentation.
func documented(t *testing.T) map[string]*docTable {
	t.Helper()
	d := newDeployment(t)
	d.write("break-glass.yaml", `deny: {asids: ["200000000999"]}`)
	d.replace("asid-authz.yaml", "file: map.yaml", "file: map.yaml, break_glass: break-glass.yaml")
	c, err := loadConfig(d.path("asid-authz.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	g, err := build(c, nil, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return map[string]*docTable{
		"reasons":   reasonsTable(g.rules),
		"answers":   answersTable(t, g.rules),
		"steps":     stepsTable(t, g.authorizer),
		"endpoints": endpointsTable(t),
		"rules":     rulesTable(t),
		"settings":  settingsTable(t),
		"files":     filesTable(t),
		"signs":     signsTable(),
		"modules":   modulesTable(t),
		"metrics":   metricsTable(t, g),
		"alerts":    alertsTable(t),
		"record":    recordTable(t, g.rules, d.message),
		"notes":     notesTable(t),
		"volume":    volumeTable(t, g.rules, d.message),
		"headers":   headersTable(t, g.rules, d.message),
	}
}

func reasonsTable(rules *envoy.Rules) *docTable {
	table := &docTable{head: []string{"Reason", "Class", "HTTP", "Issue code", "Spine code", "What it means", "What to do"}, hand: 2}
	for _, r := range authz.Reasons() {
		denied := authz.Deny(authz.Fault{Reason: r})
		status, outcome := rules.Answer(&denied, "")
		table.rows = append(table.rows, []string{code(r.String()), r.Class().String(), strconv.Itoa(status), outcome.IssueCode, code(outcome.Code)})
	}
	return table
}

// answersTable is for whoever sees only the answer: it has the Reasons that a client is
// told, and the words of an example.
func answersTable(t *testing.T, rules *envoy.Rules) *docTable {
	t.Helper()
	sender := authz.HeaderField("fromASID")
	examples := map[authz.Reason]authz.Fault{
		authz.MethodNotAllowed:         {Field: authz.FieldMethod, Value: "PUT"},
		authz.QueryForbidden:           {Field: authz.FieldQuery, Value: "access_token"},
		authz.HeaderForbidden:          {Field: authz.HeaderField("x-http-method-override")},
		authz.HeaderMissing:            {Field: sender},
		authz.HeaderRepeated:           {Field: sender},
		authz.HeaderMalformed:          {Field: sender, Value: "20000000117"},
		authz.ReceiverUnknown:          {Field: authz.HeaderField("toASID"), Value: "200000000999"},
		authz.InteractionNotOfEndpoint: {Field: authz.HeaderField("InteractionID"), Value: "urn:nhs:names:services:nrl:DocumentReference.search"},
		authz.ClaimMissing:             {Field: authz.ClaimField("requesting_system")},
		authz.ClaimMalformed:           {Field: authz.ClaimField("requesting_system"), Value: "200000000117"},
		authz.ClaimMismatch:            {Field: authz.ClaimField("requesting_system"), Value: "https://fhir.nhs.uk/Id/accredited-system|200000000118", Other: sender},
		authz.ScopeInsufficient:        {Field: authz.ClaimField("scope"), Value: "patient/DocumentReference.read"},
	}
	asid, err := authz.ParseASID("200000000117")
	if err != nil {
		t.Fatal(err)
	}
	interaction, err := authz.ParseInteractionID("urn:nhs:names:services:nrl:DocumentReference.delete")
	if err != nil {
		t.Fatal(err)
	}
	table := &docTable{head: []string{"`x-asid-reason`", "HTTP", "Spine code", "`diagnostics`, for example", "What to do"}, hand: 1}
	for _, r := range authz.Reasons() {
		if r.Public() != r {
			continue
		}
		fault := examples[r]
		fault.Reason = r
		denied := authz.Deny(fault)
		*denied.Facts() = authz.Facts{ASID: asid, ClaimedASID: asid, Interaction: interaction}
		status, outcome := rules.Answer(&denied, "")
		table.rows = append(table.rows, []string{code(r.String()), strconv.Itoa(status), code(outcome.Code), plain(outcome.Diagnostics)})
	}
	return table
}

var codeSpan = regexp.MustCompile("`([^`]+)`")

// stepsTable holds the Reasons that a hand wrote beside each step against those that the
// cases of the corpus show it to give.
func stepsTable(t *testing.T, a *authz.Authorizer) *docTable {
	t.Helper()
	table := &docTable{head: []string{"Step", "What it looks at", "Reasons"}, hand: 2}
	_, steps := a.Explain(t.Context(), &authz.Request{Now: time.Now()})
	for _, s := range steps {
		table.rows = append(table.rows, []string{s.Name})
	}
	given := map[string]map[string]string{} // step → Reason → a case
	corpus, err := authztest.Load("../../authz/testdata")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for name, world := range corpus.Worlds {
		minted, config := authztest.Mint(t, world)
		authorizer, err := authz.New(config)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range corpus.In(name) {
			r, err := minted.Request(c, &config.Profile, now)
			if err != nil {
				t.Fatal(err)
			}
			_, steps := authorizer.Explain(context.Background(), r)
			for _, s := range steps {
				if s.Outcome != authz.Failed {
					continue
				}
				if given[s.Name] == nil {
					given[s.Name] = map[string]string{}
				}
				given[s.Name][s.Fault.Reason.String()] = c.File
			}
		}
	}
	table.check = func(rows map[string][]string) (problems []string) {
		for step, cells := range rows {
			said := map[string]bool{}
			for _, span := range codeSpan.FindAllStringSubmatch(cells[2], -1) {
				said[span[1]] = true
				if _, err := authz.ParseReason(span[1]); err != nil {
					problems = append(problems, "row "+step+": "+err.Error())
				}
			}
			for reason, example := range given[step] {
				if !said[reason] {
					problems = append(problems, fmt.Sprintf("row %s does not say that it can give %s, as in case %s", step, reason, example))
				}
			}
		}
		return problems
	}
	return table
}

// endpointsTable has the base of the profile in its paths.
func endpointsTable(t *testing.T) *docTable {
	t.Helper()
	nrl, err := profile.Builtin("nrl")
	if err != nil {
		t.Fatal(err)
	}
	table := &docTable{head: []string{"Endpoint", "Method", "Path", "Scope", "interactionId"}}
	for _, e := range nrl.Endpoints {
		ids := []string{e.Interaction.String()}
		for _, alias := range e.Aliases {
			ids = append(ids, alias.String())
		}
		table.rows = append(table.rows, []string{code(e.Name), e.Method, code(nrl.Base + e.Path.String()), code(e.Scope), strings.Join(codeEach(ids), " or ")})
	}
	return table
}

func rulesTable(t *testing.T) *docTable {
	t.Helper()
	nrl, err := profile.Builtin("nrl")
	if err != nil {
		t.Fatal(err)
	}
	table := &docTable{head: []string{"Rule", "Claim", "Applies", "What it says"}, hand: 1}
	for _, r := range nrl.Token.Rules {
		applies := "always"
		switch {
		case r.IfPresent != "" && r.Unless != "":
			applies = "with " + code(r.IfPresent) + ", without " + code(r.Unless)
		case r.IfPresent != "":
			applies = "with " + code(r.IfPresent)
		case r.Unless != "":
			applies = "without " + code(r.Unless)
		}
		table.rows = append(table.rows, []string{code(r.Name), code(r.Claim), applies})
	}
	return table
}

// settingTypes are the types of values in the words of whoever writes them.
var settingTypes = map[reflect.Type]string{
	reflect.TypeFor[string]():         "text",
	reflect.TypeFor[*string]():        "text",
	reflect.TypeFor[[]string]():       "list of text",
	reflect.TypeFor[bool]():           "true or false",
	reflect.TypeFor[[]ASIDValue]():    "list of ASIDs",
	reflect.TypeFor[AddressValue]():   "host:port",
	reflect.TypeFor[[]AddressValue](): "list of host:port",
	reflect.TypeFor[NamespaceValue](): "text",
	reflect.TypeFor[DurationValue]():  "duration",
	reflect.TypeFor[CountValue]():     "number",
	reflect.TypeFor[PathValue]():      "path",
	reflect.TypeFor[[]PathValue]():    "list of paths",
	reflect.TypeFor[ModeValue]():      "word",
	reflect.TypeFor[PlaceValue]():     "word",
	reflect.TypeFor[OutputValue]():    "word",
	reflect.TypeFor[AllowsValue]():    "word",
	reflect.TypeFor[OnFullValue]():    "word",
	reflect.TypeFor[SizeValue]():      "size",
	reflect.TypeFor[NumberValue]():    "number",
	reflect.TypeFor[SourceValue]():    "word",
}

// settingsTable is made from config.go alone: its comments are the manual. A key has a
// comment, or the comment of its group names it; and it, or its group, says what a change
// does.
func settingsTable(t *testing.T) *docTable {
	t.Helper()
	comments := configComments(t)
	defaults := Config{Issuers: make([]IssuerConfig, 1)}
	defaults.setDefaults()
	table := &docTable{head: []string{"Key", "Value", "Default", "Change", "Meaning"}}
	var walk func(prefix, change string, group reflect.Value)
	walk = func(prefix, ofGroup string, group reflect.Value) {
		for i := range group.NumField() {
			field := group.Type().Field(i)
			key := field.Tag.Get("yaml")
			if key == "" {
				continue
			}
			path, change := prefix+key, changeOf(field, ofGroup)
			comment := comments[group.Type().Name()+"."+field.Name]
			value := group.Field(i)
			kind, scalar := settingTypes[field.Type]
			if !scalar {
				inner := field.Type
				switch {
				case inner.Kind() == reflect.Pointer:
					value, inner = reflect.Zero(inner.Elem()), inner.Elem()
				case inner.Kind() == reflect.Slice && value.Len() == 1:
					value, inner, path = value.Index(0), inner.Elem(), path+"[]"
				}
				if inner.Kind() != reflect.Struct {
					t.Fatalf("%s is a %s, of which this test knows no name", path, field.Type)
				}
				meaning := strings.TrimSpace(comments[inner.Name()] + " " + comment)
				if meaning == "" {
					t.Errorf("%s.%s: no comment says what %s is for", group.Type().Name(), field.Name, path)
				}
				table.rows = append(table.rows, []string{code(path), "", "", "", plain(meaning)})
				walk(path+".", change, value)
				continue
			}
			of := comments[group.Type().Name()]
			if comment == "" && regexp.MustCompile(`\b`+key+`\b`).MatchString(of) {
				comment = "See " + code(strings.TrimSuffix(prefix, ".")) + "."
			}
			if comment == "" {
				t.Errorf("%s.%s: no comment says what %s is for", group.Type().Name(), field.Name, path)
			}
			if change != changeReload && change != changeRestart {
				t.Errorf("%s.%s: neither it nor its group says what a change of %s does: %q", group.Type().Name(), field.Name, path, change)
			}
			standard := defaultOf(value)
			if said := saidDefault(comment); said != standard {
				t.Errorf("%s: the comment says that the default is %q, and it is %q", path, said, standard)
			}
			table.rows = append(table.rows, []string{code(path), kind, plain(standard), change, plain(comment)})
		}
	}
	walk("", "", reflect.ValueOf(defaults))
	return table
}

// defaultOf returns a default as it would be written down, "" if there is none.
func defaultOf(value reflect.Value) string {
	switch v := value.Interface().(type) {
	case DurationValue:
		text := v.String()
		if whole, is := strings.CutSuffix(text, "m0s"); is {
			text = whole + "m"
		}
		if whole, is := strings.CutSuffix(text, "h0m"); is {
			text = whole + "h"
		}
		return text
	case AddressValue:
		return string(v)
	case OutputValue:
		return string(v)
	case AllowsValue:
		return string(v)
	case OnFullValue:
		return string(v)
	case SizeValue:
		return v.String()
	case NumberValue:
		return strconv.Itoa(v.N)
	}
	return ""
}

var writtenDefault = regexp.MustCompile(`\bDefault ([^ ]+)[.:](?: |$)|^([^ ]+) \(default\)`)

func saidDefault(comment string) string {
	m := writtenDefault.FindStringSubmatch(comment)
	if m == nil {
		return ""
	}
	return m[1] + m[2]
}

// configComments returns the comments of config.go: of each struct under its name, of
// each field under "Struct.Field".
func configComments(t *testing.T) map[string]string {
	t.Helper()
	comments := map[string]string{}
	var declarations []ast.Decl
	for _, name := range []string{"config.go", "redis.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		declarations = append(declarations, file.Decls...)
	}
	for _, declaration := range declarations {
		types, is := declaration.(*ast.GenDecl)
		if !is || types.Tok != token.TYPE {
			continue
		}
		for _, spec := range types.Specs {
			spec := spec.(*ast.TypeSpec)
			structure, is := spec.Type.(*ast.StructType)
			if !is {
				continue
			}
			comments[spec.Name.Name] = withoutName(types.Doc.Text(), spec.Name.Name)
			for _, field := range structure.Fields.List {
				for _, name := range field.Names {
					comments[spec.Name.Name+"."+name.Name] = strings.TrimSpace(field.Doc.Text() + " " + field.Comment.Text())
				}
			}
		}
	}
	return comments
}

// withoutName turns "ListenConfig says where …" into "Says where …": who reads the table
// does not know the name.
func withoutName(text, name string) string {
	rest, is := strings.CutPrefix(strings.TrimSpace(text), name+" ")
	if !is {
		return text
	}
	rest = strings.TrimPrefix(rest, "is ")
	return strings.ToUpper(rest[:1]) + rest[1:]
}

// filesTable lists what is watched by the names that the log and the metric give it: the
// what of every watchedFile, and of every file that a generation reads for itself.
func filesTable(t *testing.T) *docTable {
	t.Helper()
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	add := func(e ast.Expr) {
		if text, is := e.(*ast.BasicLit); is {
			name, err := strconv.Unquote(text.Value)
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, name)
		}
	}
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), source, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.KeyValueExpr:
				if key, is := n.Key.(*ast.Ident); is && key.Name == "what" {
					add(n.Value)
				}
			case *ast.CallExpr:
				if method, is := n.Fun.(*ast.SelectorExpr); is && method.Sel.Name == "read" && len(n.Args) == 2 {
					add(n.Args[0])
				}
			}
			return true
		})
	}
	slices.Sort(names)
	table := &docTable{head: []string{"`what`", "Setting", "When it is broken, gone or unreadable"}, hand: 2}
	for _, name := range slices.Compact(names) {
		table.rows = append(table.rows, []string{code(name)})
	}
	return table
}

// signsTable lists what the questions of a wrongly configured Envoy show.
func signsTable() *docTable {
	table := &docTable{head: []string{"`sign`", "What is seen", "What to change in Envoy"}}
	for _, sign := range envoy.Signs() {
		table.rows = append(table.rows, []string{code(sign.Name), plain(sign.Meaning), plain(sign.Setting)})
	}
	return table
}

// modulesTable lists what go.mod requires directly.
func modulesTable(t *testing.T) *docTable {
	t.Helper()
	text, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	table := &docTable{head: []string{"Module", "For"}, hand: 1}
	for _, m := range regexp.MustCompile(`(?m)^\t([^ ]+) v[^ ]+$`).FindAllSubmatch(text, -1) {
		table.rows = append(table.rows, []string{code(string(m[1]))})
	}
	return table
}

func metricsTable(t *testing.T, g *generation) *docTable {
	t.Helper()
	s := &service{log: zap.NewNop(), metrics: newMetrics(), identity: &serverIdentity{}}
	s.identity.certificate.Store(&tls.Certificate{Leaf: &x509.Certificate{}}) // without one there is no series
	fromRedis := *g                                                           // has more to tell than one from a file
	fromRedis.interactions = redisMap{cache.NewReplica(zap.NewNop(), conn.Options{}, layout.DefaultNamespace)}
	s.generation.Store(&fromRedis)
	s.metrics.observe(s, envoy.NewServer(func() *envoy.Rules { return g.rules }, func(*envoy.Record) error { return nil }))
	s.metrics.reload("map", "loaded") // a vector without samples is not gathered
	families, err := s.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	table := &docTable{head: []string{"Metric", "Labels", "Type", "Help", "When to look at it"}, hand: 1}
	for _, f := range families {
		switch name := f.GetName(); {
		case strings.HasPrefix(name, "go_"), strings.HasPrefix(name, "process_"): // of every Go program, different by platform
		case !strings.HasPrefix(name, "asid_authz_"):
			t.Errorf("metric %s has another beginning than the others", name)
		default:
			var labels []string
			for _, pair := range f.GetMetric()[0].GetLabel() {
				labels = append(labels, pair.GetName())
			}
			table.rows = append(table.rows, []string{code(name), strings.Join(codeEach(labels), ", "), strings.ToLower(f.GetType().String()), plain(f.GetHelp())})
		}
	}
	return table
}

// recordTable writes a record in which every fact is known, as the audit log writes it,
// and looks for its fields in the metadata of real answers.
func recordTable(t *testing.T, rules *envoy.Rules, allowed *authv3.CheckRequest) *docTable {
	t.Helper()
	asid, err := authz.ParseASID("200000000117")
	if err != nil {
		t.Fatal(err)
	}
	interaction, err := authz.ParseInteractionID("urn:nhs:names:services:nrl:DocumentReference.read")
	if err != nil {
		t.Fatal(err)
	}
	full := &envoy.Record{Time: time.Now(), DecisionID: "x", Decision: authz.Deny(authz.Fault{Reason: authz.MapStale, Field: authz.FieldMap}),
		Profile: "nrl", RequestID: "x", TraceID: "x", Duration: time.Second, Panic: []byte("no field of the record"), Waited: time.Second, Marked: true}
	*full.Decision.Facts() = authz.Facts{ASID: asid, ClaimedASID: asid, ODSCode: "x", Receiver: asid, Endpoint: "read", Interaction: interaction,
		Subject: "x", HasMap: true, MapVersion: 1, MapAge: time.Second, CertificateSHA256: [32]byte{1}, BreakGlass: "x"}
	for _, v := range []reflect.Value{reflect.ValueOf(*full), reflect.ValueOf(*full.Decision.Facts())} {
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("%s.%s is not in the record that this table is made from", v.Type(), v.Type().Field(i).Name)
			}
		}
	}
	line := newAuditLines().record(full)

	shown := map[string]bool{}
	server := envoy.NewServer(func() *envoy.Rules { return rules }, func(*envoy.Record) error { return nil })
	message := proto.Clone(allowed).(*authv3.CheckRequest)
	headers := &message.Attributes.Request.Http.HeaderMap.Headers
	for name, value := range map[string]string{
		"x-request-id": "42", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	} {
		*headers = append(*headers, &corev3.HeaderValue{Key: name, RawValue: []byte(value)})
	}
	for _, asid := range []string{"200000000117", "200000000118"} {
		for _, h := range *headers {
			if h.Key == "fromasid" {
				h.RawValue = []byte(asid)
			}
		}
		response, err := server.Check(t.Context(), message)
		if err != nil {
			t.Fatal(err)
		}
		for name := range response.GetDynamicMetadata().AsMap() {
			shown[name] = true
		}
	}

	table := &docTable{head: []string{"Field", "Type", "In Envoy's metadata", "Meaning"}, hand: 1}
	decoder := json.NewDecoder(bytes.NewReader(line.Bytes()))
	if _, err := decoder.Token(); err != nil { // the brace
		t.Fatal(err)
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			t.Fatal(err)
		}
		value, err := decoder.Token()
		if err != nil {
			t.Fatal(err)
		}
		kind := "text"
		if _, is := value.(float64); is {
			kind = "number"
		}
		in := "no"
		if shown[name.(string)] {
			in = "yes"
		}
		delete(shown, name.(string))
		table.rows = append(table.rows, []string{code(name.(string)), kind, in})
	}
	for name := range shown {
		t.Errorf("the metadata has a field %s that the record has not", name)
	}
	return table
}

// headersTable lists what the API is told of a request that is allowed.
func headersTable(t *testing.T, rules *envoy.Rules, allowed *authv3.CheckRequest) *docTable {
	t.Helper()
	server := envoy.NewServer(func() *envoy.Rules { return rules }, func(*envoy.Record) error { return nil })
	response, err := server.Check(t.Context(), allowed)
	if err != nil {
		t.Fatal(err)
	}
	table := &docTable{head: []string{"Header", "What it says"}, hand: 1}
	for _, h := range response.GetOkResponse().GetHeaders() {
		table.rows = append(table.rows, []string{code(h.GetHeader().GetKey())})
	}
	return table
}
