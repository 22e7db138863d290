package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"asid-authz/authz/authztest"
)

// refused is the call that the rest of the demo is about: a consumer that deletes.
const refused = "permission-delete-of-consumer"

// playGrant gives GP One the right that it lacked, in the map file, and shows that it can use
// it without anybody's restart; then it takes it away again.
func (d *demo) playGrant(ctx context.Context) error {
	c, err := d.find(refused)
	if err != nil {
		return err
	}
	before, granted, err := d.maps()
	if err != nil {
		return err
	}
	for _, step := range []struct {
		says, text string
		want       authztest.WantKind
	}{
		{"GP One is granted DocumentReference.delete in the map file", granted, authztest.WantAllow},
		{"the grant is taken away again", before, authztest.WantDeny},
	} {
		if err := d.mesh.SetMap(ctx, step.text); err != nil {
			return err
		}
		why, took, err := d.until(ctx, c, step.want)
		if err != nil {
			return err
		}
		fmt.Fprintf(d.w, "%s; %.1f s later %s: %s\n", step.says, took.Seconds(), request(c), why)
	}
	fmt.Fprintln(d.w)
	return nil
}

// maps returns the map file of the mesh, and the same with the right that GP One lacks.
func (d *demo) maps() (before, granted string, err error) {
	if before, err = d.mesh.World.MapText(); err != nil {
		return "", "", err
	}
	granted = strings.Replace(before, "    interactions: [nrl-consumer]\n", "    interactions: [nrl-consumer, urn:nhs:names:services:nrl:DocumentReference.delete]\n", 1)
	if granted == before {
		return "", "", errors.New("the map file of the corpus has no system with interactions: [nrl-consumer]")
	}
	return before, granted, nil
}

// patience is how long a change may take until it has an effect.
const patience = 30 * time.Second

// until sends a case until its outcome is of that kind, and says how long that took.
func (d *demo) until(ctx context.Context, c *authztest.Case, kind authztest.WantKind) (why string, took time.Duration, err error) {
	for start := time.Now(); ; {
		answer, err := d.send(ctx, c)
		if err != nil {
			return "", 0, err
		}
		v, err := d.judge(answer)
		if err != nil {
			return "", 0, err
		}
		if took = time.Since(start); v.got.Kind == kind {
			return v.why, took, nil
		}
		if took > patience {
			return "", 0, fmt.Errorf("the changed map file has had no effect for %v: %s", patience, v.why)
		}
		select {
		case <-ctx.Done():
			return "", 0, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// playExplain lets asid-authz say, to an operator, all that it thinks of the refused call.
func (d *demo) playExplain(ctx context.Context) error {
	c, err := d.find(refused)
	if err != nil {
		return err
	}
	if err := d.writeClient(c, "explained"); err != nil {
		return err
	}
	args := []string{"explain", "--config", d.mesh.Replica().Config,
		"--method", c.Request.Method, "--path", c.Request.Target,
		"--cert", d.mesh.Path("explained.pem"), "--token", d.mesh.Path("explained.jwt")}
	for _, line := range c.Request.Lines {
		if !strings.HasPrefix(strings.ToLower(line), "authorization:") {
			args = append(args, "--header", line)
		}
	}
	fmt.Fprintf(d.w, "asid-authz explain, of GP One's delete, for whoever operates the service:\n\n")
	out, err := d.programs.Run(ctx, args...)
	// Exit code 3: it worked, and the request would be denied.
	if exit, is := errors.AsType[*exec.ExitError](err); !is || exit.ExitCode() != 3 {
		if err == nil {
			err = errors.New("explain says that it would be allowed")
		}
		return err
	}
	for line := range strings.Lines(string(out)) {
		fmt.Fprintln(d.w, strings.TrimRight("    "+line, " \n"))
	}
	_, err = fmt.Fprintln(d.w)
	return err
}

// writeClient writes certificate, key and token of a case into the mesh's directory, under
// that name.
func (d *demo) writeClient(c *authztest.Case, name string) error {
	certificate, err := d.mesh.World.Certificate(c)
	if err != nil {
		return err
	}
	token, err := d.mesh.World.Token(c, time.Now())
	if err != nil {
		return err
	}
	for suffix, content := range map[string][]byte{".pem": certificate.PEM(), ".key": certificate.KeyPEM(), ".jwt": []byte(token)} {
		if err := os.WriteFile(d.mesh.Path(name+suffix), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}
