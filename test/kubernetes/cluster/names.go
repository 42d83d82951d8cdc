// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster // import "github.com/tapio-io/otelcol-tapio/test/kubernetes/cluster"

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const clusterDomain = "cluster.local"

// StartDNS runs the name server that pods ask. It knows what NameServices has told it.
func (n *Node) StartDNS(t testing.TB) {
	t.Helper()
	dnsmasq, err := exec.LookPath("dnsmasq")
	require.NoError(t, err, "apt-get install dnsmasq-base")
	require.NoError(t, os.Mkdir(n.names(), 0o755))
	start(t, n.Folder, n.Command(dnsmasq, "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root",
		"--no-resolv", "--no-hosts", "--hostsdir="+n.names(), "--local=/"+clusterDomain+"/", "--bind-interfaces", "--listen-address="+nodeAddress))
}

func (n *Node) names() string { return filepath.Join(n.Folder, "names") }

// NameServices has pods find the Services that there are, by their names.
func (n *Node) NameServices(t testing.TB) {
	t.Helper()
	var services struct {
		Items []struct {
			Metadata struct{ Name, Namespace string }
			Spec     struct{ ClusterIP string }
		}
	}
	require.NoError(t, json.Unmarshal(n.Do(t, http.MethodGet, "/api/v1/services", ""), &services))
	var hosts strings.Builder
	for _, service := range services.Items {
		if service.Spec.ClusterIP != "None" {
			fmt.Fprintf(&hosts, "%s %s.%s.svc.%s\n", service.Spec.ClusterIP, service.Metadata.Name, service.Metadata.Namespace, clusterDomain)
		}
	}
	require.NoError(t, os.WriteFile(filepath.Join(n.names(), "services"), []byte(hosts.String()), 0o644))
}
