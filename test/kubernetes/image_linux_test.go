// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	dockerfile = "../../deploy/Dockerfile"
	agentImage = "docker.io/library/otelcol-tapio:0.1.0" // as containerd reads "otelcol-tapio:0.1.0"
)

// builder is buildah, which needs no daemon. It keeps images in the user's cache, for the one that stands in for Go's.
type builder struct {
	t       *testing.T
	storage string
}

// buildImage builds the image from the clone, all of it, and returns it as an archive.
func buildImage(t *testing.T) (archive string) {
	t.Helper()
	b := newBuilder(t)
	b.buildah("build", "--isolation", "chroot", "--layers=false", "--build-arg", "GO_IMAGE="+b.goImage(), "--build-arg", "VERSION=0.1.0+test",
		"--volume", goEnv(t, "GOMODCACHE")+":/root/go/pkg/mod", "--volume", goEnv(t, "GOCACHE")+":/root/.cache/go-build",
		"-f", dockerfile, "-t", agentImage, "../..")
	t.Cleanup(func() { b.buildah("rmi", agentImage) })
	b.requireImage()
	archive = filepath.Join(t.TempDir(), "image.tar")
	b.buildah("push", agentImage, "docker-archive:"+archive+":"+agentImage)
	return archive
}

func newBuilder(t *testing.T) *builder {
	_, err := exec.LookPath("buildah")
	require.NoError(t, err, "apt-get install buildah debootstrap")
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	return &builder{t, filepath.Join(cache, "otelcol-tapio", "buildah")}
}

func goEnv(t *testing.T, name string) string {
	value, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(value))
}

// buildah runs it with mounts of its own, of which none stays. It also cleans up, when the test's context is done.
func (b *builder) buildah(arguments ...string) string {
	b.t.Helper()
	all := append(append([]string{"--mount", "buildah"}, b.flags()...), arguments...)
	command := exec.CommandContext(context.WithoutCancel(b.t.Context()), "unshare", all...)
	var errors strings.Builder
	command.Stderr = &errors
	output, err := command.Output()
	require.NoError(b.t, err, "buildah %s: %s", strings.Join(arguments, " "), &errors)
	return strings.TrimSpace(string(output))
}

func (b *builder) flags() []string {
	return []string{"--root", b.storage, "--runroot", b.t.TempDir(), "--storage-driver", "overlay"}
}

// goImage is what has the tools that Go's own image has: Debian, and the Go that runs this. Made once.
func (b *builder) goImage() string {
	b.t.Helper()
	name := "localhost/" + runtime.Version() + ":latest"
	if strings.Contains(b.buildah("images", "--format", "{{.Name}}:{{.Tag}}"), name) {
		return name
	}
	root := filepath.Join(b.t.TempDir(), "root")
	output, err := exec.CommandContext(b.t.Context(), "debootstrap", "--variant=minbase", "--include=make,git,ca-certificates", "bookworm", root).CombinedOutput()
	require.NoError(b.t, err, "debootstrap (apt-get install debootstrap): %s", output)
	container := b.buildah("from", "scratch")
	defer b.buildah("rm", container)
	b.buildah("copy", container, root, "/")
	b.buildah("copy", container, goEnv(b.t, "GOROOT"), "/usr/local/go")
	b.buildah("config", "--env", "GOTOOLCHAIN=local", "--env", "PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
	b.buildah("commit", container, name)
	return name
}

// requireImage looks at what is in the image, and runs it as the user that it has.
func (b *builder) requireImage() {
	b.t.Helper()
	var image struct {
		OCIv1 struct {
			Config struct {
				User, WorkingDir string
				Entrypoint, Cmd  []string
				Labels           map[string]string
			}
		}
	}
	require.NoError(b.t, json.Unmarshal([]byte(b.buildah("inspect", "--type", "image", agentImage)), &image))
	config := image.OCIv1.Config
	assert.Equal(b.t, "65532:65532", config.User)
	assert.Equal(b.t, []string{"/otelcol-tapio"}, config.Entrypoint)
	assert.Equal(b.t, []string{"--config", "/etc/otelcol-tapio/config.yaml"}, config.Cmd)
	assert.Equal(b.t, "0.1.0+test", config.Labels["org.opencontainers.image.version"])
	assert.Equal(b.t, "Apache-2.0", config.Labels["org.opencontainers.image.licenses"])

	container := b.buildah("from", agentImage)
	defer b.buildah("rm", container)
	run := func(arguments ...string) string {
		return b.buildah(append([]string{"run", "--isolation", "chroot", container, "/otelcol-tapio"}, arguments...)...)
	}
	assert.Contains(b.t, run("--version"), "0.1.0+test")
	assert.Contains(b.t, b.read(container, "/NOTICES"), "\ngo.opentelemetry.io/collector/receiver v")
	run("validate", "--config", "/etc/otelcol-tapio/config.yaml", "--config", "yaml:receivers::tapioebpf::source: simulator")
}

// read a file of a container, in which no program could.
func (b *builder) read(container, path string) string {
	b.t.Helper()
	mount := append([]string{"--mount", "sh", "-ec", `cat "$("$@")"` + path, "sh", "buildah"}, append(b.flags(), "mount", container)...)
	content, err := exec.CommandContext(b.t.Context(), "unshare", mount...).Output()
	require.NoError(b.t, err, "read %s", path)
	return string(content)
}
