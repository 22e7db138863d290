package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
)

var update = flag.Bool("update", false, "rewrite the tables of the documentation that are made from the code")

// A docTable is a table of the documentation. Its first columns are made from the code.
// The others are written by hand, and found again by the first cell of their row.
type docTable struct {
	head []string
	hand int // how many of the last columns are written by hand
	rows [][]string
	// check looks at the rows as they stand in the document, for what a hand can get
	// wrong; nil: nothing.
	check func(rows map[string][]string) []string
}

var (
	tableMarker = regexp.MustCompile(`^<!-- table ([a-z]+) -->$`)
	anyMarker   = regexp.MustCompile(`<!--\s*/?\s*(tables?\b|end\b)`)
	endMarker   = "<!-- end -->"
)

// TestDocs compares every table between markers with the code. With -update it rewrites
// what is made from the code; what is written by hand stays, and a hand has to fill in
// what is empty then.
func TestDocs(t *testing.T) {
	tables := documented(t)
	for name, table := range tables {
		if len(table.rows) == 0 { // with -update, everything that a hand wrote would be lost
			t.Fatalf("the code gives table %s no rows", name)
		}
	}
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("../../README.md"); err == nil {
		files = append(files, "../../README.md")
	}
	seen := map[string]string{}
	for _, file := range files {
		name := filepath.Base(file)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		next, found, problems := rewriteTables(string(text), tables)
		for _, p := range problems {
			t.Errorf("%s:%s", name, p)
		}
		for _, table := range found {
			if other, twice := seen[table]; twice {
				t.Errorf("table %s stands in %s and in %s: two texts to keep alike", table, other, name)
			}
			seen[table] = name
		}
		switch {
		case next == string(text):
		case *update:
			if err := os.WriteFile(file, []byte(next), 0o644); err != nil {
				t.Fatal(err)
			}
		default:
			t.Errorf("%s: a table says otherwise than the code (make docs rewrites it):\n%s", name, firstDifference(string(text), next))
		}
		metricNames(t, name, next, tables["metrics"])
	}
	for name := range tables {
		if seen[name] == "" {
			t.Errorf("table %s stands in no document", name)
		}
	}
}

// rewriteTables returns text with every table as the code has it, the names of the
// tables, and what is wrong with them, each with its line.
func rewriteTables(text string, tables map[string]*docTable) (next string, found, problems []string) {
	object := func(line int, format string, args ...any) {
		problems = append(problems, fmt.Sprintf("%d: ", line+1)+fmt.Sprintf(format, args...))
	}
	var out []string
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		out = append(out, lines[i])
		m := tableMarker.FindStringSubmatch(lines[i])
		if m == nil {
			if anyMarker.MatchString(lines[i]) {
				object(i, "a marker out of place, or misspelt: %s", lines[i])
			}
			continue
		}
		end := slices.Index(lines[i:], endMarker)
		if end < 0 {
			object(i, "table %s has no end", m[1])
			continue
		}
		body, start := lines[i+1:i+end], i
		i += end
		table := tables[m[1]]
		if table == nil {
			object(start, "no table is named %s; there are %s", m[1], strings.Join(slices.Sorted(maps.Keys(tables)), ", "))
			out = append(append(out, body...), endMarker)
			continue
		}
		found = append(found, m[1])
		rendered, wrong := table.merge(body)
		for _, w := range wrong {
			object(start, "table %s: %s", m[1], w)
		}
		out = append(append(append(out, ""), rendered...), "", endMarker)
	}
	return strings.Join(out, "\n"), found, problems
}

// merge returns the lines of the table, with what was written by hand in the lines that
// are there now, and what is wrong with that.
func (d *docTable) merge(lines []string) (rendered, problems []string) {
	old := map[string][]string{}
	for n, line := range lines {
		if line == "" {
			continue
		}
		cells, ok := cellsOf(line)
		switch {
		case !ok:
			problems = append(problems, "something else than a table stands between the markers: "+line)
		case n > 0 && strings.Trim(line, "|- ") == "", slices.Equal(cells, d.head): // head and the line below it
		case old[cells[0]] != nil:
			problems = append(problems, "row "+cells[0]+" stands twice")
		default:
			old[cells[0]] = cells
		}
	}
	if len(old) == 0 && (d.hand > 0 || !*update) {
		problems = append(problems, "there is no table between the markers")
	}
	rule := "|" + strings.Repeat("---|", len(d.head))
	rendered = append(rendered, rowOf(d.head), rule)
	now := map[string][]string{}
	for _, row := range d.rows {
		hand := make([]string, d.hand)
		if was := old[row[0]]; len(was) >= d.hand {
			copy(hand, was[len(was)-d.hand:])
		}
		for i, cell := range hand {
			if cell == "" {
				problems = append(problems, fmt.Sprintf("row %s says nothing under %q", row[0], d.head[len(d.head)-d.hand+i]))
			}
		}
		whole := append(slices.Clone(row), hand...)
		rendered = append(rendered, rowOf(whole))
		now[row[0]] = whole
		delete(old, row[0])
	}
	for key := range old {
		if d.hand > 0 && !*update {
			problems = append(problems, "row "+key+" is of something that there is no more")
		}
	}
	if d.check != nil {
		problems = append(problems, d.check(now)...)
	}
	slices.Sort(problems)
	return rendered, problems
}

func rowOf(cells []string) string { return "| " + strings.Join(cells, " | ") + " |" }

// cellsOf takes a line of a table apart. A "\|" is a pipe within a cell.
func cellsOf(line string) (cells []string, ok bool) {
	line = strings.TrimSpace(line)
	if len(line) < 2 || line[0] != '|' || line[len(line)-1] != '|' {
		return nil, false
	}
	const pipe = "\x00"
	for cell := range strings.SplitSeq(strings.ReplaceAll(line[1:len(line)-1], `\|`, pipe), "|") {
		cells = append(cells, strings.ReplaceAll(strings.TrimSpace(cell), pipe, `\|`))
	}
	return cells, true
}

// plain returns text of the code as a cell: what Markdown would take for a column or a
// tag is escaped, but in code spans, which know no escapes but that of the pipe.
func plain(text string) string {
	parts := strings.Split(strings.Join(strings.Fields(text), " "), "`")
	for i := range parts {
		parts[i] = strings.ReplaceAll(parts[i], "|", `\|`)
		if i%2 == 0 {
			parts[i] = strings.ReplaceAll(parts[i], "<", "&lt;")
		}
	}
	return strings.Join(parts, "`")
}

func code(text string) string { return "`" + strings.ReplaceAll(text, "|", `\|`) + "`" }

// codeEach returns each text as a code span.
func codeEach(texts []string) []string {
	all := make([]string, len(texts))
	for i := range texts {
		all[i] = code(texts[i])
	}
	return all
}

func firstDifference(old, next string) string {
	a, b := strings.Split(old, "\n"), strings.Split(next, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d\n is %s\nnow %s", i+1, a[i], b[i])
		}
	}
	return fmt.Sprintf("%d lines, now %d", len(a), len(b))
}

var metricName = regexp.MustCompile(`\basid_authz_[a-z_]*[a-z]\b`)

// metricNames objects to metrics in the text, in alerts for one, that do not exist.
func metricNames(t *testing.T, file, text string, metrics *docTable) {
	t.Helper()
	known := map[string]bool{}
	for _, row := range metrics.rows {
		name := strings.Trim(row[0], "`")
		known[name] = true
		if row[2] == "histogram" {
			known[name+"_bucket"], known[name+"_sum"], known[name+"_count"] = true, true, true
		}
	}
	for _, name := range metricName.FindAllString(text, -1) {
		if !known[name] {
			t.Errorf("%s: no metric is named %s", file, name)
		}
	}
}

// TestTables: what keeps the tables true can fail.
func TestTables(t *testing.T) {
	defer func(was bool) { *update = was }(*update)
	*update = false
	tables := map[string]*docTable{"colours": {head: []string{"Colour", "Code", "Meaning"}, hand: 1,
		rows: [][]string{{"`red`", "1"}, {"`blue`", "2"}}}}
	const good = "text\n<!-- table colours -->\n\n| Colour | Code | Meaning |\n|---|---|---|\n| `red` | 1 | stop \\| wait |\n| `blue` | 2 | go |\n\n<!-- end -->\nmore"
	replaced := func(old, next string) string { return strings.Replace(good, old, next, 1) }
	for name, test := range map[string]struct{ text, problem string }{
		"good":           {good, ""},
		"another value":  {replaced("| 2 |", "| 3 |"), "changed"},
		"another order":  {replaced("| `red` | 1 | stop \\| wait |\n| `blue` | 2 | go |", "| `blue` | 2 | go |\n| `red` | 1 | stop \\| wait |"), "changed"},
		"nothing said":   {replaced("| go |", "| |"), "says nothing"},
		"a row too few":  {replaced("| `blue` | 2 | go |\n", ""), "says nothing"},
		"a row too many": {replaced("\n\n<!-- end", "\n| `green` | 3 | wait |\n\n<!-- end"), "no more"},
		"a row twice":    {replaced("\n\n<!-- end", "\n| `blue` | 2 | go |\n\n<!-- end"), "stands twice"},
		"prose":          {replaced("\n\n<!-- end", "\nand so on\n\n<!-- end"), "something else"},
		"no table":       {"<!-- table colours -->\n<!-- end -->", "no table between"},
		"unknown table":  {replaced("table colours", "table shapes"), "no table is named shapes"},
		"no end":         {replaced("<!-- end -->", ""), "has no end"},
		"end alone":      {replaced("<!-- table colours -->", ""), "out of place"},
		"misspelt":       {replaced("<!-- table colours -->", "<!--table colours-->"), "out of place"},
	} {
		next, _, problems := rewriteTables(test.text, tables)
		if next != test.text {
			problems = append(problems, "changed")
		}
		if all := strings.Join(problems, "; "); (all == "") != (test.problem == "") || !strings.Contains(all, test.problem) {
			t.Errorf("%s: problems are %q, want %q", name, all, test.problem)
		}
	}
}

// TestDocumentedTokens: each token that integrators.md shows is accepted, with the times
// of today, for the request of a case that sends one of its kind.
func TestDocumentedTokens(t *testing.T) {
	text, err := os.ReadFile("../../docs/integrators.md")
	if err != nil {
		t.Fatal(err)
	}
	var shown []map[string]any
	for _, block := range strings.Split(string(text), "```json\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		var claims map[string]any
		if err := json.Unmarshal([]byte(block), &claims); err != nil {
			t.Fatalf("%v in\n%s", err, block)
		}
		shown = append(shown, claims)
	}
	cases := []string{"allow-search", "claim-citizen", "allow-unattended"}
	if len(shown) != len(cases) {
		t.Fatalf("%d tokens are shown, want one for each of %v", len(shown), cases)
	}
	corpus, minted, config := authztest.Setup(t, "../../authz/testdata")
	now := time.Now()
	authorizer, err := authz.New(config)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range cases {
		at := slices.IndexFunc(corpus.Cases, func(c *authztest.Case) bool { return c.File == name })
		if at < 0 {
			t.Fatalf("the corpus has no case %s", name)
		}
		r, err := minted.Request(corpus.Cases[at], &config.Profile, now)
		if err != nil {
			t.Fatal(err)
		}
		shown[i]["iat"], shown[i]["exp"] = now.Unix(), now.Unix()+300
		token, err := minted.Issuers["cas"].Sign("ES256", "cas-2", nil, shown[i])
		if err != nil {
			t.Fatal(err)
		}
		for h := range r.Headers {
			if r.Headers[h].Name == "authorization" {
				r.Headers[h].Value = "Bearer " + token
			}
		}
		if d := authorizer.Check(t.Context(), r); !d.Allowed() {
			t.Errorf("token %d, sent as in %s, is refused: %v (%s)", i+1, name, d.Reason(), d.Fault().Field)
		}
	}
}

// TestDocumentedReplies: a client that Envoy answers by itself finds the words of the
// answer in integrators.md.
func TestDocumentedReplies(t *testing.T) {
	text, err := os.ReadFile("../../docs/integrators.md")
	if err != nil {
		t.Fatal(err)
	}
	code, hcm, stderr := command(t, "envoy-config", "--part", "hcm")
	if code != exitOK {
		t.Fatal(stderr)
	}
	words := regexp.MustCompile(`\\"diagnostics\\":\\"(.*?)\\"`).FindAllStringSubmatch(hcm, -1)
	if len(words) == 0 {
		t.Fatal("Envoy has no words of its own")
	}
	for _, w := range words {
		if !strings.Contains(string(text), ": *"+w[1]+"* |") {
			t.Errorf("integrators.md does not know %q", w[1])
		}
	}
}

var (
	docLink    = regexp.MustCompile(`\]\(([^)#: ]*)(?:#([^) ]+))?\)`)
	docHeading = regexp.MustCompile("(?m)^#+ (.*)$")
	notAnchor  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// hasHeading reports whether the text has a heading that a link with that anchor leads to.
func hasHeading(text, anchor string) bool {
	return slices.ContainsFunc(docHeading.FindAllStringSubmatch(text, -1), func(heading []string) bool {
		plain := notAnchor.ReplaceAllString(strings.ToLower(heading[1]), "")
		return strings.ReplaceAll(plain, " ", "-") == anchor
	})
}

// TestDocLinks: every link to a file of the project, and to a heading in one, leads there.
func TestDocLinks(t *testing.T) {
	var files []string
	for _, pattern := range []string{"../../*.md", "../../docs/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	links := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range docLink.FindAllStringSubmatch(string(text), -1) {
			links++
			target := file
			if link[1] != "" {
				target = filepath.Join(filepath.Dir(file), link[1])
			}
			info, err := os.Stat(target)
			if err != nil {
				t.Errorf("%s: %s leads nowhere", filepath.Base(file), link[0])
				continue
			}
			if link[2] == "" || info.IsDir() {
				continue
			}
			there, err := os.ReadFile(target)
			if err != nil {
				t.Fatal(err)
			}
			if !hasHeading(string(there), link[2]) {
				t.Errorf("%s: %s has no such heading", filepath.Base(file), link[0])
			}
		}
	}
	if links < 20 {
		t.Errorf("only %d links are found: this test holds for nothing", links)
	}
}
