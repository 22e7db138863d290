package docker

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A rootfs is the file system of an image, as a list of what goes into it. The image is
// imported from a tar stream, so that nobody has to be root and nothing is copied twice.
type rootfs struct {
	files map[string]string // path in the image: path of this machine
	texts map[string]string // path in the image: content
	trees []tree
}

type tree struct {
	at, from string
	skip     []string // paths relative to from
}

// newRootfs returns a file system in which programs find a user, and names of hosts.
func newRootfs() *rootfs {
	return &rootfs{files: map[string]string{}, texts: map[string]string{
		"/etc/passwd":        "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n",
		"/etc/group":         "root:x:0:\nnonroot:x:65532:\n",
		"/etc/nsswitch.conf": "hosts: files dns\n",
	}}
}

// program adds a program and every library that it is linked with. Libraries that the C
// library loads by itself, to resolve names, no linker knows of.
func (r *rootfs) program(ctx context.Context, at, from string) error {
	from, err := filepath.EvalSymlinks(from)
	if err != nil {
		return err
	}
	r.files[at] = from
	libraries, err := linked(ctx, from)
	if err != nil {
		return err
	}
	for _, library := range libraries {
		r.files[library] = library
		if path.Base(library) != "libc.so.6" {
			continue
		}
		for _, name := range []string{"libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2"} {
			if beside := path.Join(path.Dir(library), name); exists(beside) {
				r.files[beside] = beside
			}
		}
	}
	return nil
}

var libraryLine = regexp.MustCompile(`^\s*(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)$`)

// linked returns the libraries that ldd names, none for a static program.
func linked(ctx context.Context, program string) (libraries []string, err error) {
	out, err := run(ctx, nil, "ldd", program)
	if err != nil {
		if strings.Contains(out+err.Error(), "not a dynamic executable") {
			return nil, nil
		}
		return nil, err
	}
	for line := range strings.Lines(out) {
		if strings.Contains(line, "not found") {
			return nil, fmt.Errorf("%s: %s", program, strings.TrimSpace(line))
		}
		if m := libraryLine.FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil {
			libraries = append(libraries, m[1])
		}
	}
	return libraries, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// load makes it an image of that name, with changes in the language of Dockerfiles.
func (r *rootfs) load(ctx context.Context, image string, changes ...string) error {
	args := []string{"import"}
	for _, change := range changes {
		args = append(args, "--change", change)
	}
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(r.write(writer)) }()
	_, err := run(ctx, reader, "docker", append(args, "-", image)...)
	reader.Close()
	return err
}

// write writes the tar stream. Owners and times are nobody's: the same files make the same image.
func (r *rootfs) write(w io.Writer) error {
	t := tar.NewWriter(w)
	for _, dir := range []string{"tmp", "data"} {
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o1777}); err != nil {
			return err
		}
	}
	for _, name := range sortedKeys(r.texts) {
		if err := writeEntry(t, name, 0o644, strings.NewReader(r.texts[name]), int64(len(r.texts[name]))); err != nil {
			return err
		}
	}
	for _, name := range sortedKeys(r.files) {
		if err := writeFile(t, name, r.files[name]); err != nil {
			return err
		}
	}
	for _, tree := range r.trees {
		if err := tree.write(t); err != nil {
			return err
		}
	}
	return t.Close()
}

func (r tree) write(t *tar.Writer) error {
	return filepath.WalkDir(r.from, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(r.from, name)
		if err != nil {
			return err
		}
		switch {
		case entry.IsDir() && slices.Contains(r.skip, relative):
			return filepath.SkipDir
		case entry.Type().IsRegular():
			return writeFile(t, path.Join(r.at, filepath.ToSlash(relative)), name)
		}
		return nil
	})
}

func writeFile(t *tar.Writer, at, from string) error {
	file, err := os.Open(from)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	mode := int64(0o644) // for whoever the container runs as
	if info.Mode().Perm()&0o111 != 0 {
		mode = 0o755
	}
	return writeEntry(t, at, mode, file, info.Size())
}

func writeEntry(t *tar.Writer, name string, mode int64, content io.Reader, size int64) error {
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(name, "/"), Mode: mode, Size: size}); err != nil {
		return err
	}
	_, err := io.Copy(t, content)
	return err
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
