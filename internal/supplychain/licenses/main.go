// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Command licenses checks that everything which is linked into a binary may be given away with it, and writes down
// the licences and notices that have to go along.
package main

import (
	"bytes"
	"cmp"
	"debug/buildinfo"
	"errors"
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	classifier "github.com/google/licenseclassifier/v2"
	"github.com/google/licenseclassifier/v2/assets"
)

// allowed are licences, by the classifier's names, which are mostly those of SPDX. They ask for no more than what the
// notices do: to name authors and conditions and, for the MPL, where the source code is. None has a say in the licence of
// what it is linked with.
var allowed = []string{"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "GNU-All-permissive-Copying-License", "ISC", "MIT", "MPL-2.0", "Unlicense"}

// otherwise are files that are named like licences, and are none of code; by module, with slashes.
var otherwise = map[string]string{
	"github.com/opencontainers/go-digest/LICENSE.docs": "of its documentation",
	standard + "/src/crypto/internal/boring/LICENSE":   "of a library that is linked with GOEXPERIMENT=boringcrypto only",
}

func main() {
	log.SetFlags(0)
	sources := flag.String("sources", "distribution", "`folder` of the main package that the binary was built from")
	notices := flag.String("notices", "", "`file` to write licences and notices to")
	flag.Parse()
	if flag.NArg() != 1 {
		log.Fatal("usage: licenses [-sources FOLDER] [-notices FILE] BINARY")
	}
	if err := run(flag.Arg(0), *sources, *notices); err != nil {
		log.Fatal(err)
	}
}

func run(binary, sources, notices string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("read what %s was built from: %w", binary, err)
	}
	modules, err := linkedModules(info, sources)
	if err != nil {
		return err
	}
	texts, err := readTexts(modules)
	if err != nil {
		return err
	}
	counts, err := check(modules, texts)
	if err != nil {
		return err
	}
	fmt.Printf("%d modules: %s\n", len(modules), strings.Join(counts, ", "))
	if notices == "" {
		return nil
	}
	if err := os.WriteFile(notices, noticesOf(texts), 0o644); err != nil {
		return fmt.Errorf("write the notices: %w", err)
	}
	return nil
}

// classify has the texts of all licences in memory.
var classify = sync.OnceValues(assets.DefaultClassifier)

// own is the path of this repository's modules: who has the binary has their licence, too.
const own = "github.com/tapio-io/otelcol-tapio"

// standard stands for Go's own packages.
const standard = "Go"

// module is one of which at least a package is linked.
type module struct {
	path, version string
	dir           string
	files         []string // licences and notices, below dir
}

func (m *module) String() string { return m.path + " " + m.version }

// text is a licence or notice, which many modules may share to the letter.
type text struct {
	content []byte
	license bool // else it is a notice, which has names and no conditions
	modules []*module
	names   []string // in each of the modules, with slashes
}

// linkedModules has Go list the packages again, with their folders, and holds that against what the binary says.
func linkedModules(info *buildinfo.BuildInfo, sources string) ([]*module, error) {
	list, err := goOutput(info, sources, "list", "-mod=readonly", "-deps", "-f",
		"{{with .Module}}{{.Path}}\t{{.Version}}\t{{.Dir}}{{else}}\t\t{{end}}\t{{.Dir}}", ".")
	if err != nil {
		return nil, err
	}
	root, err := goOutput(info, sources, "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	modules := map[string]*module{}
	for line := range strings.Lines(list) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if fields[0] == "" {
			fields = []string{standard, info.GoVersion, strings.TrimSpace(root), fields[3]}
		}
		if err := addPackage(modules, fields[0], fields[1], fields[2], fields[3]); err != nil {
			return nil, err
		}
	}
	for _, dependency := range info.Deps {
		m := modules[dependency.Path]
		if !strings.HasPrefix(dependency.Path, own) && (m == nil || m.version != dependency.Version) {
			return nil, fmt.Errorf("%s %s is in the binary, and not in %s: build it again", dependency.Path, dependency.Version, sources)
		}
	}
	return slices.SortedFunc(maps.Values(modules), func(a, b *module) int { return cmp.Compare(a.path, b.path) }), nil
}

// goOutput of a command of Go's, for the platform that the binary is for.
func goOutput(info *buildinfo.BuildInfo, dir string, arguments ...string) (string, error) {
	command := exec.Command("go", arguments...)
	command.Dir = dir
	command.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	for _, setting := range info.Settings {
		if slices.Contains([]string{"GOOS", "GOARCH", "CGO_ENABLED"}, setting.Key) {
			command.Env = append(command.Env, setting.Key+"="+setting.Value)
		}
	}
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("go %s in %s: %w", arguments[0], dir, err)
	}
	return string(output), nil
}

// addPackage notes the module of a package, and what the folders from there up to the module's say of licences.
func addPackage(modules map[string]*module, path, version, dir, of string) error {
	if strings.HasPrefix(path, own) {
		return nil
	}
	m := modules[path]
	if m == nil {
		m = &module{path: path, version: version, dir: dir}
		modules[path] = m
	}
	for {
		if err := m.addFilesOf(of); err != nil {
			return err
		}
		if of == dir {
			return nil
		}
		of = filepath.Dir(of)
		if !strings.HasPrefix(of, dir) {
			return fmt.Errorf("a package of %s is not below %s", m, dir)
		}
	}
}

func (m *module) addFilesOf(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("look for licences of %s: %w", m, err)
	}
	for _, entry := range entries {
		name, err := filepath.Rel(m.dir, filepath.Join(folder, entry.Name()))
		if err != nil {
			return err
		}
		if entry.Type().IsRegular() && isLegal(entry.Name()) && !slices.Contains(m.files, name) {
			m.files = append(m.files, name)
		}
	}
	return nil
}

// isLegal by its name, but for source code that is about such files.
func isLegal(name string) bool {
	name = strings.ToLower(name)
	return isLicense(name) || hasPrefix(name, "notice", "patents", "third") && filepath.Ext(name) != ".go"
}

func isLicense(name string) bool {
	return hasPrefix(strings.ToLower(name), "licen", "unlicense", "copying") && filepath.Ext(name) != ".go"
}

func hasPrefix(name string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// readTexts of all modules, each once.
func readTexts(modules []*module) ([]*text, error) {
	var texts []*text
	known := map[string]*text{}
	for _, m := range modules {
		slices.Sort(m.files)
		for _, name := range m.files {
			if otherwise[m.path+"/"+filepath.ToSlash(name)] != "" {
				continue
			}
			content, err := os.ReadFile(filepath.Join(m.dir, name))
			if err != nil {
				return nil, fmt.Errorf("read a licence of %s: %w", m, err)
			}
			t := known[string(content)]
			if t == nil {
				t = &text{content: content}
				known[string(content)] = t
				texts = append(texts, t)
			}
			t.license = t.license || isLicense(filepath.Base(name))
			t.modules = append(t.modules, m)
			t.names = append(t.names, filepath.ToSlash(name))
		}
	}
	return texts, nil
}

// check that each module has a licence, and that all are known and allowed. Returned is how many texts there are of
// each.
func check(modules []*module, texts []*text) ([]string, error) {
	known, err := classify()
	if err != nil {
		return nil, fmt.Errorf("load the texts of licences: %w", err)
	}
	var errs []error
	licensed, counts := map[*module]bool{}, map[string]int{}
	for _, t := range texts {
		if !t.license {
			continue
		}
		licenses := licensesIn(known, t.content)
		for _, m := range t.modules {
			licensed[m] = true
		}
		if len(licenses) == 0 {
			errs = append(errs, fmt.Errorf("%s: nobody knows the licence in %s", t.modules[0], t.names[0]))
		}
		for _, license := range licenses {
			counts[license] += len(t.modules)
			if !slices.Contains(allowed, license) {
				errs = append(errs, fmt.Errorf("%s: %s (%s) is not among the licences that are allowed", t.modules[0], license, t.names[0]))
			}
		}
	}
	for _, m := range modules {
		if !licensed[m] {
			errs = append(errs, fmt.Errorf("%s has no licence", m))
		}
	}
	var lines []string
	for _, license := range slices.Sorted(maps.Keys(counts)) {
		lines = append(lines, fmt.Sprintf("%d of %s", counts[license], license))
	}
	return lines, errors.Join(errs...)
}

// licensesIn a text, by their SPDX identifiers, each once.
func licensesIn(known *classifier.Classifier, content []byte) []string {
	var licenses []string
	for _, match := range known.Match(content).Matches {
		if match.MatchType == "License" || match.MatchType == "Header" { // a header names it, and says where it is
			licenses = append(licenses, match.Name)
		}
	}
	slices.Sort(licenses)
	return slices.Compact(licenses)
}

// noticesOf has each text once, below the modules that it is of.
func noticesOf(texts []*text) []byte {
	var b bytes.Buffer
	b.WriteString("otelcol-tapio contains the software of others below, each with its licence or notice. The source code of a\n" +
		"module is what \"go mod download MODULE@VERSION\" gets.\n")
	for _, t := range texts {
		b.WriteString("\n" + strings.Repeat("=", 80) + "\n")
		for i, m := range t.modules {
			fmt.Fprintf(&b, "%s (%s)\n", m, t.names[i])
		}
		b.WriteString(strings.Repeat("-", 80) + "\n")
		b.Write(bytes.TrimSpace(t.content))
		b.WriteByte('\n')
	}
	return b.Bytes()
}
