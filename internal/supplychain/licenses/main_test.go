// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"debug/buildinfo"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/licenseclassifier/v2/assets"
)

// licensed makes a module of a package in a folder, with files that are given as name and licence in turn.
func licensed(t *testing.T, path string, files ...string) *module {
	t.Helper()
	dir := t.TempDir()
	of := filepath.Join(dir, "a", "package")
	if err := os.MkdirAll(of, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(files); i += 2 {
		content, err := assets.ReadLicenseFile(files[i+1])
		if err != nil {
			content = []byte(files[i+1])
		}
		if err := os.WriteFile(filepath.Join(dir, files[i]), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	modules := map[string]*module{}
	if err := addPackage(modules, path, "v1.0.0", dir, of); err != nil {
		t.Fatal(err)
	}
	return modules[path]
}

func TestCheck(t *testing.T) {
	for name, test := range map[string]struct {
		module *module
		counts string
		err    string
	}{
		"allowed":           {licensed(t, "m", "LICENSE", "License/MIT/pristine.txt"), "1 of MIT", ""},
		"two":               {licensed(t, "m", "LICENSE", "License/MIT/pristine.txt", "a/license.md", "License/ISC/license.txt"), "1 of ISC, 1 of MIT", ""},
		"not allowed":       {licensed(t, "m", "COPYING", "License/GPL-2.0/license.txt"), "1 of GPL-2.0", "m v1.0.0: GPL-2.0 (COPYING) is not among"},
		"of a package":      {licensed(t, "m", "LICENSE", "License/MIT/pristine.txt", "a/package/LICENSE", "License/GPL-2.0/license.txt"), "1 of GPL-2.0, 1 of MIT", "GPL-2.0 (a/package/LICENSE)"},
		"unknown":           {licensed(t, "m", "LICENSE", "Ask me."), "", "m v1.0.0: nobody knows the licence in LICENSE"},
		"none":              {licensed(t, "m"), "", "m v1.0.0 has no licence"},
		"a notice is none":  {licensed(t, "m", "NOTICE", "Made by us."), "", "m v1.0.0 has no licence"},
		"code is none":      {licensed(t, "m", "license.go", "package m"), "", "m v1.0.0 has no licence"},
		"known to be other": {licensed(t, "github.com/opencontainers/go-digest", "LICENSE", "License/Apache-2.0/a.txt", "LICENSE.docs", "Ask me."), "1 of Apache-2.0", ""},
	} {
		t.Run(name, func(t *testing.T) {
			texts, err := readTexts([]*module{test.module})
			if err != nil {
				t.Fatal(err)
			}
			counts, err := check([]*module{test.module}, texts)
			if got := strings.Join(counts, ", "); got != test.counts {
				t.Errorf("counts %q, want %q", got, test.counts)
			}
			switch {
			case test.err == "" && err != nil:
				t.Error(err)
			case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
				t.Errorf("error %v, want %q", err, test.err)
			}
		})
	}
}

func TestNotices(t *testing.T) {
	modules := []*module{
		licensed(t, "m", "LICENSE", "Do as you like.", "NOTICE", "Made by us."),
		licensed(t, "n", "a/COPYING", "Do as you like."),
	}
	texts, err := readTexts(modules)
	if err != nil {
		t.Fatal(err)
	}
	_, got, _ := strings.Cut(string(noticesOf(texts)), "\n\n")
	line := func(c string) string { return strings.Repeat(c, 80) + "\n" }
	want := line("=") + "m v1.0.0 (LICENSE)\nn v1.0.0 (a/COPYING)\n" + line("-") + "Do as you like.\n\n" +
		line("=") + "m v1.0.0 (NOTICE)\n" + line("-") + "Made by us.\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestStandardLibrary(t *testing.T) {
	modules := map[string]*module{}
	root, err := goOutput(&buildinfo.BuildInfo{}, ".", "env", "GOROOT")
	if err != nil {
		t.Fatal(err)
	}
	root = strings.TrimSpace(root)
	if err := addPackage(modules, standard, runtime.Version(), root, filepath.Join(root, "src", "net", "http")); err != nil {
		t.Fatal(err)
	}
	texts, err := readTexts([]*module{modules[standard]})
	if err != nil {
		t.Fatal(err)
	}
	counts, err := check([]*module{modules[standard]}, texts)
	if err != nil || strings.Join(counts, ", ") != "1 of BSD-3-Clause" {
		t.Error(counts, err)
	}
}

func TestPackageElsewhere(t *testing.T) {
	if err := addPackage(map[string]*module{}, "m", "v1.0.0", t.TempDir(), t.TempDir()); err == nil {
		t.Error("a package that is not below its module is taken")
	}
}
