// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"archive/tar"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// modules are the drivers that Debian does not build in and that tests may want, in load order.
// All of them load without another module.
var modules = []string{"veth", "dummy", "overlay"}

// busyboxSuite is where the guest's userland comes from. Its version does not matter to a test.
const busyboxSuite = "trixie"

// Files is what of a kernel's packages a guest needs.
type Files struct {
	Vmlinuz string
	Modules []string // in load order
}

// Fetch returns the kernel's files from the cache, and fills the cache from Debian at first.
func (k Kernel) Fetch(ctx context.Context) (Files, error) {
	dir, err := cached(k.Name+"-"+k.version, func(dir string) error { return k.download(ctx, dir) })
	if err != nil {
		return Files{}, fmt.Errorf("fetch kernel %s: %w", k.Name, err)
	}
	files := Files{Vmlinuz: filepath.Join(dir, "vmlinuz")}
	for _, module := range modules {
		found, err := filepath.Glob(filepath.Join(dir, module+".ko*"))
		if err != nil || len(found) != 1 {
			return Files{}, fmt.Errorf("kernel %s: found %q for module %s: remove %s to fetch it anew", k.Name, found, module, dir)
		}
		files.Modules = append(files.Modules, found[0])
	}
	return files, nil
}

func (k Kernel) download(ctx context.Context, dir string) error {
	a, err := newApt(ctx, filepath.Join(dir, "apt"), k.Arch, k.suite)
	if err != nil {
		return err
	}
	for _, name := range k.packages {
		if err := a.served(ctx, name, k.version); err != nil {
			return fmt.Errorf("change the pinned version in %s: %w", k.pinnedAt, err)
		}
		if err := a.extract(ctx, name+":"+k.Arch+"="+k.version, dir, k.wanted); err != nil {
			return err
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "vmlinuz")); err != nil {
		return fmt.Errorf("no vmlinuz in packages %q: %w", k.packages, err)
	}
	return os.RemoveAll(filepath.Join(dir, "apt"))
}

// wanted tells under which name a file of the package is kept, or "" if it is not.
func (Kernel) wanted(file string) string {
	base := path.Base(file)
	// boot/vmlinuz-VERSION, or from 7.x on lib/modules/VERSION/vmlinuz.
	if base == "vmlinuz" || strings.HasPrefix(base, "vmlinuz-") {
		return "vmlinuz"
	}
	if module, _, isModule := strings.Cut(base, ".ko"); isModule && slices.Contains(modules, module) {
		return base
	}
	return ""
}

// busybox returns a static busybox for the architecture: the host's if it fits, else Debian's.
func busybox(ctx context.Context, arch string) (string, error) {
	if own, err := exec.LookPath("busybox"); err == nil && arch == runtime.GOARCH && static(own) {
		return own, nil
	}
	dir, err := cached("busybox-"+arch, func(dir string) error {
		a, err := newApt(ctx, filepath.Join(dir, "apt"), arch, busyboxSuite)
		if err != nil {
			return err
		}
		keep := func(file string) string {
			if path.Base(file) == "busybox" && path.Base(path.Dir(file)) == "bin" {
				return "busybox"
			}
			return ""
		}
		if err := a.extract(ctx, "busybox-static:"+arch, dir, keep); err != nil {
			return err
		}
		return os.RemoveAll(filepath.Join(dir, "apt"))
	})
	if err != nil {
		return "", fmt.Errorf("fetch busybox: %w", err)
	}
	return filepath.Join(dir, "busybox"), nil
}

// static tells if a program needs no libraries: Debian has busybox in both kinds.
func static(file string) bool {
	f, err := elf.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	return !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}

func cacheFolder() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w", err)
	}
	return filepath.Join(base, "otelcol-tapio", "kernels"), nil
}

// cached returns a folder of the cache by name. If there is none, fill makes it, and no half of it
// is ever seen: a run that is interrupted leaves only a folder that nobody looks into.
func cached(name string, fill func(dir string) error) (string, error) {
	base, err := cacheFolder()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(base, name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(base, 0o755); err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	temp, err := os.MkdirTemp(base, ".filling-")
	if err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	defer os.RemoveAll(temp)
	if err := fill(temp); err != nil {
		return "", err
	}
	if err := os.Rename(temp, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("move into the cache: %w", err)
	}
	return dir, nil
}

// unpack writes the files of a tar stream for which keep has a name into dir.
func unpack(stream io.Reader, dir string, keep func(string) string) error {
	for archive := tar.NewReader(stream); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
		name := keep(header.Name)
		if name == "" || header.Typeflag != tar.TypeReg {
			continue
		}
		if err := writeFile(filepath.Join(dir, name), archive, header.FileInfo().Mode()); err != nil {
			return err
		}
	}
}

func writeFile(name string, from io.Reader, mode fs.FileMode) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	_, err = io.Copy(f, from)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
