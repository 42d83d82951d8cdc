// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster // import "github.com/tapio-io/otelcol-tapio/test/kubernetes/cluster"

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Image is what pods can run: a busybox.
const Image = "docker.io/tapio/busybox:1"

// importBusybox has pods run it. Its own command waits, so that it serves as the sandbox of pods as well.
func (n *Node) importBusybox(t testing.TB) {
	n.importLayer(t, Image, busyboxLayer(t), map[string]any{"Cmd": []string{"/bin/sleep", "2147483647"}, "Env": []string{"PATH=/bin"}})
}

// ImportProgram has pods run an image of just a static program.
func (n *Node) ImportProgram(t testing.TB, image, program string) {
	t.Helper()
	binary, err := os.ReadFile(program)
	require.NoError(t, err)
	layer := newArchive(t)
	layer.file("program", binary)
	layer.add(&tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, nil)
	n.importLayer(t, image, layer.bytes(), map[string]any{"Entrypoint": []string{"/program"}})
}

func (n *Node) importLayer(t testing.TB, image string, layer []byte, config map[string]any) {
	file := filepath.Join(t.TempDir(), "image.tar")
	writeImage(t, file, image, layer, config)
	n.ImportImage(t, file)
}

// ImportImage has pods run what is in an archive, as "docker save" writes it.
func (n *Node) ImportImage(t testing.TB, file string) {
	t.Helper()
	require.Eventually(t, func() bool {
		return n.Command("ctr", "-a", n.socket(), "-n", "k8s.io", "images", "import", file).Run() == nil
	}, patience, pollInterval, "containerd does not take the image")
}

func writeImage(t testing.TB, file, image string, layer []byte, settings map[string]any) {
	digest := fmt.Sprintf("%x", sha256.Sum256(layer))
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": settings,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest}},
	})
	require.NoError(t, err)
	manifest, err := json.Marshal([]map[string]any{{
		"Config": "config.json", "RepoTags": []string{image}, "Layers": []string{"layer.tar"},
	}})
	require.NoError(t, err)
	archive := newArchive(t)
	archive.file("config.json", config)
	archive.file("layer.tar", layer)
	archive.file("manifest.json", manifest)
	require.NoError(t, os.WriteFile(file, archive.bytes(), 0o644))
}

func busyboxLayer(t testing.TB) []byte {
	busybox, err := exec.LookPath("busybox")
	require.NoError(t, err, "apt-get install busybox-static")
	binary, err := os.ReadFile(busybox)
	require.NoError(t, err)
	applets, err := exec.CommandContext(t.Context(), busybox, "--list").Output()
	require.NoError(t, err)
	layer := newArchive(t)
	for _, folder := range []string{"bin/", "etc/", "tmp/"} {
		layer.add(&tar.Header{Name: folder, Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	}
	layer.file("bin/busybox", binary)
	for applet := range strings.FieldsSeq(string(applets)) {
		if applet != "busybox" {
			layer.add(&tar.Header{Name: path.Join("bin", applet), Typeflag: tar.TypeSymlink, Linkname: "busybox"}, nil)
		}
	}
	return layer.bytes()
}

// archive is a tar file in memory.
type archive struct {
	t      testing.TB
	buffer bytes.Buffer
	writer *tar.Writer
}

func newArchive(t testing.TB) *archive {
	a := &archive{t: t}
	a.writer = tar.NewWriter(&a.buffer)
	return a
}

func (a *archive) file(name string, content []byte) {
	a.add(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(content))}, content)
}

func (a *archive) add(header *tar.Header, content []byte) {
	require.NoError(a.t, a.writer.WriteHeader(header))
	_, err := a.writer.Write(content)
	require.NoError(a.t, err)
}

func (a *archive) bytes() []byte {
	require.NoError(a.t, a.writer.Close())
	return a.buffer.Bytes()
}
