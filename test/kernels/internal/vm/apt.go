// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// apt is an apt with a state of its own: it neither reads nor changes what the machine has
// installed or which suites it follows.
type apt struct {
	dir   string
	arch  string
	suite string
}

func newApt(ctx context.Context, dir, arch, suite string) (*apt, error) {
	mirror, err := mirrorFor(suite, "/etc/apt")
	if err != nil {
		return nil, err
	}
	a := &apt{dir: dir, arch: arch, suite: suite}
	for _, sub := range []string{"state/lists/partial", "cache/archives/partial", "debs"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("make apt's folders: %w", err)
		}
	}
	source := fmt.Sprintf("deb [arch=%s signed-by=%s] %s %s main\n", arch, keyring, mirror, suite)
	if err := os.WriteFile(a.path("sources.list"), []byte(source), 0o644); err != nil {
		return nil, fmt.Errorf("write apt's sources: %w", err)
	}
	if err := os.WriteFile(a.path("apt.conf"), []byte(a.config()), 0o644); err != nil {
		return nil, fmt.Errorf("write apt's configuration: %w", err)
	}
	if _, err := a.run(ctx, "apt-get", "--error-on=any", "update"); err != nil {
		return nil, fmt.Errorf("read the index of %s at %s: %w", suite, mirror, err)
	}
	return a, nil
}

func (a *apt) path(name string) string { return filepath.Join(a.dir, name) }

// config is read after the machine's own configuration, so a proxy set there holds here.
func (a *apt) config() string {
	return fmt.Sprintf(`
Dir::State "%[1]s/state";
Dir::State::status "/dev/null";
Dir::Cache "%[1]s/cache";
Dir::Etc::sourcelist "%[1]s/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "%[2]s";
APT::Architectures { "%[2]s"; };
// The folder belongs to whoever runs this; apt's own user could not write to it.
APT::Sandbox::User "root";
Acquire::Languages "none";
`, a.dir, a.arch)
}

func (a *apt) run(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, append([]string{"-q", "-c", a.path("apt.conf")}, args...)...)
	cmd.Dir = a.path("debs")
	return output(cmd)
}

// served checks that the suite still has the package at this version.
func (a *apt) served(ctx context.Context, name, version string) error {
	// apt-cache fails for a name that it never heard of; both mean the same here.
	versions, _ := a.run(ctx, "apt-cache", "madison", name)
	for line := range strings.Lines(string(versions)) {
		if fields := strings.Split(line, "|"); len(fields) > 1 && strings.TrimSpace(fields[1]) == version {
			return nil
		}
	}
	return fmt.Errorf("%s no longer serves %s at version %s, but %s", a.suite, name, version, a.newest(ctx))
}

// newest describes the kernel that the suite's meta-package names.
func (a *apt) newest(ctx context.Context) string {
	meta := "linux-image-cloud-" + a.arch
	shown, err := a.run(ctx, "apt-cache", "show", "--no-all-versions", meta)
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(string(shown)) {
		if depends, ok := strings.CutPrefix(line, "Depends: "); ok {
			return strings.TrimSpace(depends)
		}
	}
	return "nothing that " + meta + " depends on"
}

// extract downloads a package and writes the files for which keep has a name into dir.
func (a *apt) extract(ctx context.Context, pkg, dir string, keep func(string) string) error {
	if _, err := a.run(ctx, "apt-get", "download", pkg); err != nil {
		return fmt.Errorf("download %s: %w", pkg, err)
	}
	name, _, _ := strings.Cut(pkg, ":")
	debs, err := filepath.Glob(a.path("debs/" + name + "_*.deb"))
	if err != nil || len(debs) != 1 {
		return fmt.Errorf("download %s: found %q", pkg, debs)
	}
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", debs[0])
	stream, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("extract %s: %w", pkg, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("extract %s: %w", pkg, err)
	}
	unpacked := unpack(stream, dir, keep)
	// What is left must be read for dpkg-deb to end well.
	_, drained := io.Copy(io.Discard, stream)
	if err := errors.Join(unpacked, drained, cmd.Wait()); err != nil {
		return fmt.Errorf("extract %s: %w", pkg, err)
	}
	return nil
}
