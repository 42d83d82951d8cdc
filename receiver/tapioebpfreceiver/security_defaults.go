// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"

import (
	"slices"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

// defaultShells are names of executables, as links are resolved: /bin/sh is dash or bash, ash is busybox.
var defaultShells = []string{
	"sh", "bash", "rbash", "dash", "ash", "busybox", "toybox", "zsh", "ksh", "ksh93", "mksh", "lksh", "fish", "csh", "tcsh",
}

// sensitiveGroup is what is known of some paths, as they are called where links are resolved.
type sensitiveGroup struct {
	paths        []string
	technique    string // of MITRE ATT&CK; empty: none fits
	onWrite      bool   // it is changing them that the technique is about
	readers      []string
	firstProgram bool // what a container was started for opens them as a matter of course
}

// sensitiveDefaults are all that are sensitive by default.
var sensitiveDefaults = []sensitiveGroup{
	{
		paths:     []string{"/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-"},
		technique: "T1003.008", // OS Credential Dumping: /etc/passwd and /etc/shadow
		readers: slices.Concat(inDirectories(
			"unix_chkpwd", "sshd", "login", "su", "sudo", "passwd", "chage", "chpasswd", "chsh", "chfn", "expiry", "gpasswd", "newusers", "newgrp",
			"useradd", "userdel", "usermod", "groupadd", "groupdel", "groupmod", "pwck", "grpck", "vipw", "cron", "crond", "atd", "nscd", "runuser",
		), []string{"/usr/lib/openssh/", "/usr/libexec/openssh/", "/usr/lib/systemd/", "/lib/systemd/", "/usr/lib/polkit-1/", "/usr/libexec/polkit-agent-helper-1"}),
	},
	{
		paths:     []string{"/etc/sudoers", "/etc/sudoers.d/"},
		technique: "T1548.003", // Abuse Elevation Control Mechanism: Sudo and Sudo Caching
		readers:   inDirectories("sudo", "visudo", "cvtsudoers"),
	},
	{
		paths: []string{
			"/etc/ssh/ssh_host_rsa_key", "/etc/ssh/ssh_host_ecdsa_key", "/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_dsa_key",
		},
		technique: "T1552.004", // Unsecured Credentials: Private Keys
		readers:   sshServers,
	},
	{
		paths: []string{
			"**/.ssh/id_rsa", "**/.ssh/id_dsa", "**/.ssh/id_ecdsa", "**/.ssh/id_ecdsa_sk", "**/.ssh/id_ed25519", "**/.ssh/id_ed25519_sk",
		},
		technique: "T1552.004",
		readers:   inDirectories("ssh", "ssh-add", "ssh-agent", "ssh-keygen"),
	},
	{
		paths:     []string{"**/.ssh/authorized_keys", "**/.ssh/authorized_keys2"},
		technique: "T1098.004", // Account Manipulation: SSH Authorized Keys
		onWrite:   true,
		readers:   sshServers,
	},
	{
		paths:     []string{"/etc/ssl/private/", "/etc/pki/tls/private/", "/etc/letsencrypt/archive/"},
		technique: "T1552.004",
		readers: inDirectories(
			"nginx", "apache2", "httpd", "haproxy", "lighttpd", "caddy", "envoy", "exim4", "dovecot", "mysqld", "mariadbd", "slapd", "certbot", "update-ca-certificates",
		),
		firstProgram: true,
	},
	{
		// in a container they are mounted below /run, to which /var/run is a link, or, in images without
		// that link, below /var/run; on the host they are in volumes
		paths: []string{
			"/run/secrets/kubernetes.io/serviceaccount/", "/var/run/secrets/kubernetes.io/serviceaccount/", "**/kubernetes.io~projected/", "**/kubernetes.io~secret/",
		},
		technique:    "T1528", // Steal Application Access Token
		readers:      kubelets,
		firstProgram: true,
	},
	{
		paths: []string{
			"/etc/kubernetes/pki/", "/etc/kubernetes/admin.conf", "/etc/kubernetes/super-admin.conf", "/etc/kubernetes/kubelet.conf",
			"/etc/kubernetes/controller-manager.conf", "/etc/kubernetes/scheduler.conf", "/etc/kubernetes/bootstrap-kubelet.conf",
			"/var/lib/kubelet/pki/", "/var/lib/kubelet/kubeconfig", "/var/lib/kubelet/config.json",
			"/var/lib/rancher/k3s/server/token", "/var/lib/rancher/k3s/server/tls/", "/var/lib/rancher/rke2/server/token", "/var/lib/rancher/rke2/server/tls/",
			"/etc/rancher/k3s/k3s.yaml", "/etc/rancher/rke2/rke2.yaml", "/etc/etcd/pki/", "/etc/etcd/ssl/", "/var/lib/etcd/member/snap/",
		},
		technique:    "T1552", // Unsecured Credentials
		readers:      slices.Concat(kubelets, inDirectories("etcd", "kubeadm", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")),
		firstProgram: true,
	},
	{
		paths: []string{
			"**/.aws/credentials", "**/.config/gcloud/", "**/.azure/", "**/.kube/config", "**/.docker/config.json", "**/.git-credentials", "**/.vault-token",
			"/etc/kubernetes/azure.json", "/etc/kubernetes/cloud-config", "/etc/kubernetes/cloud.conf",
		},
		technique:    "T1552.001", // Unsecured Credentials: Credentials In Files
		readers:      slices.Concat(kubelets, inDirectories("kubectl", "helm", "k9s", "docker", "podman")),
		firstProgram: true,
	},
	{
		// opening one is not how it is used: that is connect(2), which is not seen here
		paths: []string{
			"/run/docker.sock", "/run/containerd/containerd.sock", "/run/crio/crio.sock", "/run/podman/podman.sock", "/run/k3s/containerd/containerd.sock",
		},
	},
	{
		paths: []string{"/dev/mem", "/dev/kmem", "/dev/port", "/proc/kcore"},
	},
	{
		paths:   []string{"/dev/kmsg", "/proc/kmsg"},
		readers: slices.Concat([]string{"/usr/lib/systemd/", "/lib/systemd/"}, inDirectories("rsyslogd", "syslog-ng", "klogd", "init", "udevadm"), kubelets),
	},
}

var sshServers = slices.Concat(inDirectories("sshd", "ssh-keygen", "dropbear"), []string{"/usr/lib/openssh/", "/usr/libexec/openssh/"})

// kubelets are where distributions of Kubernetes keep it.
var kubelets = slices.Concat(inDirectories("kubelet", "k3s"), []string{
	"/opt/bin/kubelet", "/home/kubernetes/bin/kubelet", "/var/lib/rancher/k3s/data/", "/var/lib/rancher/rke2/", "/var/lib/k0s/bin/", "/snap/microk8s/",
})

// runtimes start containers, and do by design what others should not.
var runtimes = slices.Concat(kubelets, inDirectories(
	"containerd", "containerd-shim-runc-v2", "containerd-shim", "runc", "crun", "youki", "runsc", "conmon", "conmonrs", "crio",
	"dockerd", "docker-proxy", "docker-init", "cri-dockerd", "podman", "buildah", "skopeo", "buildkitd", "nerdctl", "netavark", "aardvark-dns", "slirp4netns", "pasta",
), []string{
	"/opt/bin/", "/opt/containerd/bin/", "/home/kubernetes/bin/", "/opt/cni/bin/", "/usr/lib/cni/", "/usr/libexec/cni/", "/usr/libexec/podman/", "/usr/libexec/crio/",
})

// sandboxes are service managers, and what else gives programs a world of their own.
var sandboxes = slices.Concat(inDirectories("init", "bwrap"), []string{
	"/usr/lib/systemd/", "/lib/systemd/", "/usr/lib/snapd/", "/snap/snapd/",
})

// allowedDefault are executables outside of containers, and parents of such.
type allowedDefault struct{ executables, parents []string }

var allowedDefaults = [event.SecurityKindCount]allowedDefault{
	event.SecuritySetuidBit: {executables: slices.Concat(runtimes, inDirectories(
		"dpkg", "dpkg-statoverride", "rpm", "dnf5", "microdnf", "zypper", "apk", "pacman",
	))},
	event.SecurityCapability:   {executables: slices.Concat(runtimes, sandboxes), parents: runtimes},
	event.SecurityFilelessExec: {executables: slices.Concat(runtimes, sandboxes), parents: runtimes},
	event.SecurityNamespace:    {executables: slices.Concat(runtimes, sandboxes), parents: runtimes},
	event.SecurityMount:        {executables: slices.Concat(runtimes, sandboxes), parents: runtimes},
	event.SecurityModuleLoad: {executables: slices.Concat(
		[]string{"/usr/lib/systemd/", "/lib/systemd/"}, inDirectories("udevadm"),
	)},
	event.SecurityBPF: {executables: slices.Concat(runtimes, sandboxes), parents: runtimes},
	event.SecurityRawSocket: {executables: slices.Concat(runtimes, sandboxes, inDirectories(
		"ping", "arping", "dhclient", "dhcpcd", "udhcpc", "NetworkManager", "wpa_supplicant", "keepalived", "lldpd", "xtables-legacy-multi", "xtables-nft-multi",
	), []string{"/usr/lib/NetworkManager/", "/usr/libexec/nm-dhcp-helper"}), parents: runtimes},
	event.SecurityKernelLog: {executables: slices.Concat(sandboxes, inDirectories("rsyslogd", "syslog-ng", "klogd"))},
}
