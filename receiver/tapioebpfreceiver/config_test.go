// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"
)

// loadConfig reads testdata into the default config, as the Collector does.
func loadConfig(t *testing.T, file string) (component.Config, error) {
	t.Helper()
	conf, err := confmaptest.LoadConf(filepath.Join("testdata", file))
	require.NoError(t, err)
	cfg := NewFactory().CreateDefaultConfig()
	if err := conf.Unmarshal(&cfg); err != nil {
		return nil, err
	}
	return cfg, confmap.Validate(cfg)
}

// defaults are written out here: a change of one is a change for users.
func defaults(change func(*Config)) *Config {
	cfg := &Config{
		Source: "ebpf",
		Families: FamiliesConfig{
			Process: configoptional.Some(ProcessConfig{Arguments: true, MaxArgumentBytes: 1024}),
			Network: configoptional.Some(NetworkConfig{ReportInterval: time.Minute, TLSHandshakes: true}),
			DNS:     configoptional.Some(DNSConfig{Ports: []int{53}, Timeout: 5 * time.Second}),
			HTTP:    configoptional.Some(HTTPConfig{MaxInFlight: 4096}),

			Security: configoptional.Some(securityDefaults(func(*SecurityConfig) {})),

			CNI:  configoptional.Default(CNIConfig{PluginDirs: []string{"default"}, SyscallTracepoints: true}),
			Etcd: configoptional.Default(etcdDefaults(func(*EtcdConfig) {})),
		},
		Ring:    RingConfig{Size: 8388608, FlushInterval: 50 * time.Millisecond},
		Batch:   BatchConfig{MaxEvents: 8192, Timeout: 200 * time.Millisecond, QueueSize: 64, RetryTimeout: 5 * time.Second},
		Metrics: MetricsConfig{Interval: 10 * time.Second, SeriesLimit: 4096},

		Identity: IdentityConfig{PodTimeout: 5 * time.Second, MaxWaiting: 8192},
		Correlation: CorrelationConfig{InProcess: true, MaxWait: 30 * time.Second, MaxHeld: 16384, Peers: []string{
			"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7", "fe80::/10",
		}},

		Recording: RecordingConfig{MaxSize: 268435456},
		Replay:    ReplayConfig{Speed: 1},
		Simulator: SimulatorConfig{Rate: 3, Seed: 1, Pods: 20, Scenarios: ScenariosConfig{
			Errors: 0.03, SearchLists: 0.3, NXDomainStorm: 0.01, CrashLoop: 0.02, NoisyNeighbor: 0.002, Attack: 0.002,
		}},
		Kubernetes: configoptional.Default(KubernetesConfig{
			AuthType: "serviceAccount", Services: true, ServiceNameLabels: []string{"app.kubernetes.io/name"},
		}),
	}
	change(cfg)
	return cfg
}

func etcdDefaults(change func(*EtcdConfig)) EtcdConfig {
	cfg := EtcdConfig{
		Executables: []string{"etcd"}, SyscallTracepoints: true, Slow: 100 * time.Millisecond,
		ClientPorts: []int{2379}, PeerPorts: []int{2380},
		Watch: EtcdWatchConfig{Endpoints: []string{}, Prefix: "/registry/", QueueSize: 8192},
	}
	change(&cfg)
	return cfg
}

func everyEtcdKey(cfg *EtcdConfig) {
	cfg.Executables, cfg.SyscallTracepoints, cfg.Slow = []string{"etcd", "etcd-main"}, false, time.Minute
	cfg.ClientPorts, cfg.PeerPorts = []int{2379, 4001}, []int{}
	cfg.Watch = EtcdWatchConfig{
		Endpoints: []string{"https://10.0.0.1:2379", "[fd00::1]:2379", "etcd.example:2379"}, Prefix: "/", Username: "watcher", Password: "secret", QueueSize: 1,
	}
	cfg.Watch.TLS.CAFile, cfg.Watch.TLS.CertFile, cfg.Watch.TLS.KeyFile, cfg.Watch.TLS.ServerName = "ca.crt", "client.crt", "client.key", "etcd.example"
}

func TestConfig(t *testing.T) {
	same := func(*Config) {}
	ringOf := func(size ByteSize) func(*Config) {
		return func(cfg *Config) { cfg.Ring.Size = size }
	}
	for _, tt := range []struct {
		file   string
		change func(*Config)
	}{
		{"default.yaml", same},
		{"empty_sections.yaml", same},
		{"every_key.yaml", func(cfg *Config) {
			cfg.Families.Process = configoptional.Some(ProcessConfig{Arguments: false, MaxArgumentBytes: 4096})
			cfg.Families.Network = configoptional.Some(NetworkConfig{ReportInterval: 24 * time.Hour})
			cfg.Families.DNS = configoptional.Some(DNSConfig{Ports: []int{53, 65535}, Timeout: time.Minute})
			cfg.Families.HTTP = configoptional.Some(HTTPConfig{
				Query: true, Headers: HTTPHeadersConfig{Request: []string{"Referer", "traceparent"}, Response: []string{"content-type"}},
				Routes: []string{"/users/{id}", "/files/{path...}"}, ForwardedFor: true, MaxInFlight: 65535,
			})
			cfg.Families.Security = configoptional.Some(everySecurityKey())
			cfg.Families.CNI = configoptional.Some(CNIConfig{PluginDirs: []string{"/opt/cni/bin", "/opt/multus/"}, SyscallTracepoints: false})
			cfg.Families.Etcd = configoptional.Some(etcdDefaults(everyEtcdKey))
			cfg.Scope.Cgroups = []string{"/system.slice", "kubepods.slice/burstable"}
			cfg.Ring = RingConfig{Size: 536870912, FlushInterval: 10 * time.Second}
			cfg.Batch = BatchConfig{MaxEvents: 1048576, Timeout: time.Minute, QueueSize: 65536, RetryTimeout: 10 * time.Minute}
			cfg.Metrics = MetricsConfig{Interval: time.Hour, SeriesLimit: 1048576}
			cfg.Identity = IdentityConfig{PodTimeout: time.Minute, MaxWaiting: 1048576}
			cfg.Correlation = CorrelationConfig{InProcess: false, MaxWait: 10 * time.Minute, MaxHeld: 1048576, Peers: []string{"0.0.0.0/0", "::/0"}}
			cfg.Recording = RecordingConfig{File: "/var/tmp/tapio.recording", MaxSize: 1073741824}
			cfg.Replay = ReplayConfig{File: "other.recording", Speed: 1000}
			cfg.Simulator = SimulatorConfig{Rate: 10_000_000, Seed: 18446744073709551615, Pods: 1000, Scenarios: ScenariosConfig{
				Errors: 0.5, SearchLists: 1, NXDomainStorm: 1, CrashLoop: 1, NoisyNeighbor: 1, Attack: 1,
			}}
		}},
		{"rate_limits.yaml", func(cfg *Config) {
			cfg.RateLimits = RateLimitsConfig{Process: 1, Network: 2, DNS: 3, HTTP: 1_000_000, Security: 5, Etcd: 6}
		}},
		{"simulator.yaml", func(cfg *Config) { cfg.Source = "simulator" }},
		{"replay.yaml", func(cfg *Config) {
			cfg.Source = "replay"
			cfg.Replay = ReplayConfig{File: "tapio.recording", Speed: 0}
		}},
		{"smallest_values.yaml", func(cfg *Config) {
			cfg.Families.Process = configoptional.Some(ProcessConfig{Arguments: true, MaxArgumentBytes: 1})
			cfg.Families.Network = configoptional.Some(NetworkConfig{ReportInterval: time.Second, TLSHandshakes: true})
			cfg.Families.DNS = configoptional.Some(DNSConfig{Ports: []int{1}, Timeout: 100 * time.Millisecond})
			cfg.Families.HTTP = configoptional.Some(HTTPConfig{MaxInFlight: 64})
			cfg.Ring = RingConfig{Size: 65536, FlushInterval: time.Millisecond}
			cfg.Batch = BatchConfig{MaxEvents: 1, Timeout: time.Millisecond, QueueSize: 1, RetryTimeout: 0}
			cfg.Metrics = MetricsConfig{Interval: 100 * time.Millisecond, SeriesLimit: 1}
			cfg.Identity = IdentityConfig{PodTimeout: 0, MaxWaiting: 1}
			cfg.Correlation = CorrelationConfig{InProcess: true, Peers: []string{}}
			cfg.Recording.MaxSize = 65536
			cfg.Replay.Speed = 0
			cfg.Simulator = SimulatorConfig{Pods: 1}
		}},
		{"process_off.yaml", func(cfg *Config) { cfg.Families.Process = configoptional.None[ProcessConfig]() }},
		{"process_off_and_out_of_range.yaml", func(cfg *Config) { cfg.Families.Process = configoptional.None[ProcessConfig]() }},
		{"network_off.yaml", func(cfg *Config) { cfg.Families.Network = configoptional.None[NetworkConfig]() }},
		{"dns_off.yaml", func(cfg *Config) { cfg.Families.DNS = configoptional.None[DNSConfig]() }},
		{"cni_on.yaml", func(cfg *Config) {
			cfg.Families.CNI = configoptional.Some(CNIConfig{PluginDirs: []string{"default"}, SyscallTracepoints: true})
		}},
		{"security_off.yaml", func(cfg *Config) { cfg.Families.Security = configoptional.None[SecurityConfig]() }},
		{"security_some_keys.yaml", func(cfg *Config) {
			cfg.Families.Security = configoptional.Some(securityDefaults(func(security *SecurityConfig) {
				security.SensitivePaths = []string{"default", "/srv/keys/"}
				security.Rules.Mount.Allow.Executables = []string{"default", "/opt/tool"}
				security.Rules.KernelKexec.Severity = "fatal"
				security.Rules.KernelLogRead.Enabled = false
			}))
		}},
		{"etcd.yaml", func(cfg *Config) { cfg.Families.Etcd = configoptional.Some(etcdDefaults(func(*EtcdConfig) {})) }},
		{"etcd_off.yaml", func(cfg *Config) { cfg.Families.Etcd = configoptional.None[EtcdConfig]() }},
		{"etcd_some_keys.yaml", func(cfg *Config) {
			cfg.Families.Etcd = configoptional.Some(etcdDefaults(func(etcd *EtcdConfig) {
				etcd.Slow = 0
				etcd.Watch.Endpoints, etcd.Watch.TLS.Insecure = []string{"http://127.0.0.1:2379"}, true
			}))
		}},
		{"http_off.yaml", func(cfg *Config) { cfg.Families.HTTP = configoptional.None[HTTPConfig]() }},
		{"kubernetes.yaml", func(cfg *Config) {
			cfg.Kubernetes = configoptional.Some(KubernetesConfig{
				AuthType: "serviceAccount", NodeName: "node-1", Services: true, ServiceNameLabels: []string{"app.kubernetes.io/name"},
			})
		}},
		{"kubernetes_every_key.yaml", func(cfg *Config) {
			cfg.Kubernetes = configoptional.Some(KubernetesConfig{
				AuthType: "kubeConfig", Kubeconfig: "/etc/kubernetes/agent.conf", NodeName: "ip-10-0-0-1.eu-north-1.compute.internal", EndpointSlices: true,
				ServiceNameLabels: []string{"app.kubernetes.io/instance", "app.kubernetes.io/name"},
				Labels:            []string{"team", "app.kubernetes.io/part-of"}, Annotations: []string{"example.com/contact"},
			})
		}},
		{"kubernetes_off.yaml", func(cfg *Config) { cfg.Kubernetes = configoptional.None[KubernetesConfig]() }},
		{"kubernetes_no_labels.yaml", func(cfg *Config) {
			cfg.Kubernetes = configoptional.Some(KubernetesConfig{AuthType: "serviceAccount", NodeName: "node-1", Services: true, ServiceNameLabels: []string{}})
		}},
		{"unset_cgroup.yaml", same},
		{"null_cgroup.yaml", same},
		{"some_cgroups_unset.yaml", func(cfg *Config) { cfg.Scope.Cgroups = []string{"/a", "b"} }},
		{"ring_size_kib.yaml", ringOf(131072)},
		{"ring_size_mib.yaml", ringOf(16777216)},
		{"ring_size_with_blank.yaml", ringOf(16777216)},
		{"ring_size_number.yaml", ringOf(8388608)},
		{"ring_size_bytes.yaml", ringOf(8388608)},
		{"ring_size_text_number.yaml", ringOf(8388608)},
	} {
		t.Run(tt.file, func(t *testing.T) {
			cfg, err := loadConfig(t, tt.file)
			require.NoError(t, err)
			assert.Equal(t, defaults(tt.change), cfg)
		})
	}
}

func TestConfigOutOfRange(t *testing.T) {
	const ringRange = " must be a power of two from 64KiB to 512MiB"
	for _, tt := range []struct {
		file string
		want string
	}{
		{"other_source.yaml", `source: "other" is not known, it must be "ebpf", "simulator" or "replay"`},
		{"simulator_rate_low.yaml", "simulator::rate: -3 must be from 0 to 1e+07"},
		{"simulator_pods_low.yaml", "simulator::pods: 0 must be from 1 to 1000"},
		{"simulator_pods_high.yaml", "simulator::pods: 1001 must be from 1 to 1000"},
		{"simulator_errors_high.yaml", "simulator::scenarios::errors: 0.6 must be from 0 to 0.5"},
		{"simulator_attack_high.yaml", "simulator::scenarios::attack: 1.1 must be from 0 to 1"},
		{"replay_without_file.yaml", "replay::file: source replay needs the recording to play"},
		{"replay_speed_low.yaml", "replay::speed: -1 must be from 0 to 1000"},
		{"replay_speed_high.yaml", "replay::speed: 1000.5 must be from 0 to 1000"},
		{"replay_speed_no_number.yaml", "replay::speed: NaN must be from 0 to 1000"},
		{"recording_of_replay.yaml", "recording::file: source replay plays a recording, and makes none"},
		{"recording_max_size_low.yaml", "recording::max_size: 65535B must be at least 64KiB"},
		{"all_families_off.yaml", "families: all are off: enable process, network, dns, http, security, cni or etcd, or remove the receiver"},
		{"etcd_executables_none.yaml", "families::etcd::executables: there must be 1 to 64, not 0"},
		{"etcd_executable_path.yaml", `families::etcd::executables::1: "/usr/bin/etcd" must be a file name of 1 to 62 bytes, such as etcd`},
		{"etcd_executable_long.yaml", `families::etcd::executables::0: "` + strings.Repeat("e", 63) + `" must be a file name of 1 to 62 bytes, such as etcd`},
		{"etcd_slow_high.yaml", "families::etcd::slow: 2m0s must be 0, or from 1µs to 1m0s"},
		{"etcd_port_zero.yaml", "families::etcd::client_ports::1: 0 must be from 1 to 65535"},
		{"etcd_ports_many.yaml", "families::etcd::peer_ports: 17 are too many, the most are 16"},
		{"etcd_port_of_both.yaml", "families::etcd::peer_ports::1: 2379 is among client_ports, too"},
		{"etcd_endpoint_without_port.yaml", `families::etcd::watch::endpoints::1: "10.0.0.1" must be host:port, such as 10.0.0.1:2379`},
		{"etcd_endpoint_scheme.yaml", `families::etcd::watch::endpoints::0: "unix:///run/etcd.sock" must be host:port, or begin with https:// or http://`},
		{"etcd_endpoint_user.yaml", `families::etcd::watch::endpoints::0: "https://xxxxx@10.0.0.1:2379" must be host:port, such as 10.0.0.1:2379`},
		{"etcd_endpoint_user_not_encrypted.yaml", `families::etcd::watch::endpoints::0: "http://xxxxx@10.0.0.1:2379" is not encrypted: say https, or set tls::insecure: true`},
		{"etcd_endpoint_user_encrypted.yaml", `families::etcd::watch::endpoints::0: "https://xxxxx@10.0.0.1:2379" is encrypted, and tls::insecure says that it is not`},
		{"etcd_endpoint_user_without_scheme.yaml", `families::etcd::watch::endpoints::0: "xxxxx@10.0.0.1:2379" must be host:port, such as 10.0.0.1:2379`},
		{"etcd_endpoint_user_other_scheme.yaml", `families::etcd::watch::endpoints::0: "xxxxx@10.0.0.1:2379" must be host:port, or begin with https:// or http://`},
		{"etcd_endpoint_user_unescaped.yaml", `families::etcd::watch::endpoints::0: "https://xxxxx@10.0.0.1:2379" must be host:port, such as 10.0.0.1:2379`},
		{"etcd_endpoint_not_encrypted.yaml", `families::etcd::watch::endpoints::0: "http://10.0.0.1:2379" is not encrypted: say https, or set tls::insecure: true`},
		{"etcd_endpoint_encrypted.yaml", `families::etcd::watch::endpoints::0: "https://10.0.0.1:2379" is encrypted, and tls::insecure says that it is not`},
		{"etcd_prefix_none.yaml", "families::etcd::watch::prefix: it must have 1 to 1024 bytes, not 0"},
		{"etcd_queue_size_low.yaml", "families::etcd::watch::queue_size: 0 must be from 1 to 1048576"},
		{"etcd_password_of_nobody.yaml", "families::etcd::watch::username: there is a password, and nobody whose it is"},
		{"etcd_password_none.yaml", `families::etcd::watch::password: "watcher" has none`},
		{"too_many_cgroups.yaml", "scope::cgroups: 257 are too many, the most are 256"},
		{"max_argument_bytes_low.yaml", "families::process::max_argument_bytes: 0 must be from 1 to 4096"},
		{"max_argument_bytes_high.yaml", "families::process::max_argument_bytes: 4097 must be from 1 to 4096"},
		{"max_argument_bytes_negative.yaml", "families::process::max_argument_bytes: -1 must be from 1 to 4096"},
		{"report_interval_low.yaml", "families::network::report_interval: 999ms must be from 1s to 24h0m0s"},
		{"report_interval_high.yaml", "families::network::report_interval: 24h0m0.000000001s must be from 1s to 24h0m0s"},
		{"report_interval_without_unit.yaml", "families::network::report_interval: 60ns must be from 1s to 24h0m0s"},
		{"pod_timeout_without_unit.yaml", "identity::pod_timeout: 5ns must be 0, or from 1ms to 1m0s"},
		{"retry_timeout_without_unit.yaml", "batch::retry_timeout: 30ns must be 0, or from 1ms to 10m0s"},
		{"max_wait_without_unit.yaml", "correlation::max_wait: 30ns must be 0, or from 1ms to 10m0s"},
		{"etcd_slow_without_unit.yaml", "families::etcd::slow: 100ns must be 0, or from 1µs to 1m0s"},
		{"dns_ports_none.yaml", "families::dns::ports: there must be 1 to 16, not 0"},
		{"dns_ports_many.yaml", "families::dns::ports: there must be 1 to 16, not 17"},
		{"dns_port_zero.yaml", "families::dns::ports::1: 0 must be from 1 to 65535"},
		{"dns_port_beyond_16_bits.yaml", "families::dns::ports::0: 65589 must be from 1 to 65535"},
		{"dns_port_negative.yaml", "families::dns::ports::1: -1 must be from 1 to 65535"},
		{"etcd_port_beyond_16_bits.yaml", "families::etcd::client_ports::0: 67915 must be from 1 to 65535\nfamilies::etcd::peer_ports::0: 67916 must be from 1 to 65535"},
		{"dns_timeout_low.yaml", "families::dns::timeout: 99ms must be from 100ms to 1m0s"},
		{"dns_timeout_high.yaml", "families::dns::timeout: 1m1s must be from 100ms to 1m0s"},
		{"http_max_in_flight_low.yaml", "families::http::max_in_flight: 63 must be from 64 to 65535"},
		{"http_max_in_flight_high.yaml", "families::http::max_in_flight: 65536 must be from 64 to 65535"},
		{"http_route_without_slash.yaml", `families::http::routes: "users/{id}" must begin with a slash, as in /users/{id}`},
		{"http_route_unclosed.yaml", `families::http::routes: "/users/{id" cannot be a pattern such as /users/{id}: parsing "/users/{id": at offset 7: bad wildcard segment (must end with '}')`},
		{"http_routes_in_conflict.yaml", `families::http::routes: "/{a}/x" cannot be a pattern such as /users/{id}: pattern "/{a}/x" conflicts with pattern "/x/{b}"`},
		{"http_header_invalid.yaml", `families::http::headers::request: "two words" is not the name of a header`},
		{"http_header_empty.yaml", `families::http::headers::response: "" is not the name of a header`},
		{"http_headers_many.yaml", "families::http::headers::request: 33 are too many, the most are 32"},
		{"cni_dirs_none.yaml", "families::cni::plugin_dirs: there must be 1 to 16 with the defaults, not 0"},
		{"cni_dirs_many.yaml", "families::cni::plugin_dirs: there must be 1 to 16 with the defaults, not 17"},
		{"cni_dir_relative.yaml", `families::cni::plugin_dirs::1: path "opt/cni/bin" must begin with /`},
		{"cni_dir_unclean.yaml", `families::cni::plugin_dirs::0: path "/opt//cni" has a component that is empty, "." or ".."`},
		{"cni_dir_root.yaml", "families::cni::plugin_dirs::0: path / is no directory of plugins"},
		{"cni_dir_long.yaml", `families::cni::plugin_dirs::0: path "/xxxxxxxxxxxxxxxxxxx" (cut) has 256 bytes, the most are 255`},
		{"security_path_relative.yaml", `families::security::sensitive_paths::1: path "etc/shadow" must begin with / or **/`},
		{"security_capability_unknown.yaml", `families::security::capabilities::1: "sys_modul" is not the name of a capability, such as CAP_SYS_MODULE`},
		{"security_shell_empty.yaml", "families::security::shells::0: is empty, it must be a name such as bash, or a path"},
		{"security_shell_relative.yaml", `families::security::shells::1::0: path "bin/sh" must begin with / or **/`},
		{"security_severity_unknown.yaml", `families::security::rules::process.ptrace::severity: "loud" must be trace, debug, info, warn, error or fatal`},
		{"security_executable_relative.yaml", `families::security::rules::mount::allow::executables::1: path "mount" must begin with / or **/`},
		{"security_namespace_empty.yaml", "families::security::rules::kernel.bpf::allow::namespaces::0: is empty"},
		{"security_fold_interval_high.yaml", "families::security::fold_interval: 1h1m0s must be from 0s to 1h0m0s"},
		{"security_rules_off.yaml", "families::security::rules: all are off, or about nothing: set families::security::enabled: false"},
		{"ring_size_low.yaml", "ring::size: 32KiB" + ringRange},
		{"ring_size_high.yaml", "ring::size: 1GiB" + ringRange},
		{"ring_size_zero.yaml", "ring::size: 0B" + ringRange},
		{"ring_size_not_power_of_two.yaml", "ring::size: 3MiB" + ringRange},
		{"ring_size_beyond_32_bits.yaml", "ring::size: 4104MiB" + ringRange},
		{"rate_limit_high.yaml", "rate_limits::http: 1000001 must be from 0 to 1000000"},
		{"flush_interval_low.yaml", "ring::flush_interval: 999µs must be from 1ms to 10s"},
		{"flush_interval_high.yaml", "ring::flush_interval: 11s must be from 1ms to 10s"},
		{"max_events_low.yaml", "batch::max_events: 0 must be from 1 to 1048576"},
		{"max_events_high.yaml", "batch::max_events: 1048577 must be from 1 to 1048576"},
		{"batch_timeout_low.yaml", "batch::timeout: 0s must be from 1ms to 1m0s"},
		{"batch_timeout_high.yaml", "batch::timeout: 1m1s must be from 1ms to 1m0s"},
		{"queue_size_low.yaml", "batch::queue_size: 0 must be from 1 to 65536"},
		{"retry_timeout_high.yaml", "batch::retry_timeout: 11m0s must be 0, or from 1ms to 10m0s"},
		{"queue_size_high.yaml", "batch::queue_size: 65537 must be from 1 to 65536"},
		{"metrics_interval_low.yaml", "metrics::interval: 99ms must be from 100ms to 1h0m0s"},
		{"metrics_interval_high.yaml", "metrics::interval: 1h1m0s must be from 100ms to 1h0m0s"},
		{"pod_timeout_low.yaml", "identity::pod_timeout: -1ns must be 0, or from 1ms to 1m0s"},
		{"pod_timeout_high.yaml", "identity::pod_timeout: 1m1s must be 0, or from 1ms to 1m0s"},
		{"max_waiting_low.yaml", "identity::max_waiting: 0 must be from 1 to 1048576"},
		{"max_wait_high.yaml", "correlation::max_wait: 10m1s must be 0, or from 1ms to 10m0s"},
		{"max_held_high.yaml", "correlation::max_held: 1048577 must be from 0 to 1048576"},
		{"correlation_peer_bad.yaml", `correlation::peers::1: "10.0.0.1" is no address range such as 10.0.0.0/8`},
		{"max_waiting_high.yaml", "identity::max_waiting: 1048577 must be from 1 to 1048576"},
		{"series_limit_low.yaml", "metrics::series_limit: 0 must be from 1 to 1048576"},
		{"series_limit_high.yaml", "metrics::series_limit: 1048577 must be from 1 to 1048576"},
		{"kubernetes_auth_type.yaml", `kubernetes::auth_type: "tls" is not known, it must be "serviceAccount" or "kubeConfig"`},
		{"kubernetes_kubeconfig_unused.yaml", "kubernetes::kubeconfig: auth_type serviceAccount does not read it, auth_type kubeConfig does"},
		{"kubernetes_node_name_none.yaml", "kubernetes::node_name: must be this node's name in Kubernetes: set it, or the environment variable K8S_NODE_NAME from the field spec.nodeName in the pod's manifest"},
		{"kubernetes_node_name_bad.yaml", `kubernetes::node_name: "node 1" cannot be a node's name: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`},
		{"kubernetes_label_bad.yaml", `kubernetes::labels: "two words" cannot be a key: name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')`},
		{"kubernetes_annotation_empty.yaml", `kubernetes::annotations: "" cannot be a key: name part must be non-empty, name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')`},
		{"kubernetes_service_label_bad.yaml", `kubernetes::service_name_labels: "a/b/c" cannot be a key: a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')`},
		{"kubernetes_labels_many.yaml", "kubernetes::labels: 65 are too many, the most are 64"},
		{"several_out_of_range.yaml", `families::process::max_argument_bytes: 0 must be from 1 to 4096
families::network::report_interval: 1ms must be from 1s to 24h0m0s
ring::size: 3MiB must be a power of two from 64KiB to 512MiB
ring::flush_interval: 1m0s must be from 1ms to 10s
batch::max_events: 0 must be from 1 to 1048576`},
	} {
		t.Run(tt.file, func(t *testing.T) {
			_, err := loadConfig(t, tt.file)
			assert.EqualError(t, err, tt.want)
		})
	}
}

func TestConfigUnreadable(t *testing.T) {
	// what the Collector puts around the error of a value that it cannot decode
	const (
		decoding   = "decoding failed due to the following error(s):\n\n"
		inConfig   = decoding + "'' " + decoding
		inProcess  = inConfig + "'families.process' "
		inRingSize = inConfig + "'ring.size' "
	)
	for _, tt := range []struct {
		file string
		want string
	}{
		{"unknown_key.yaml", inConfig + "'tapioebpfreceiver.Config' has invalid keys: famlies"},
		{"unknown_family.yaml", inConfig + "'families' has invalid keys: storage"},
		{"cni_key_unknown.yaml", inConfig + "'families.cni' " + decoding + "'tapioebpfreceiver.CNIConfig' has invalid keys: plugin_dir"},
		{"security_rule_unknown.yaml", inConfig + "'families.security' " + decoding + "'rules' has invalid keys: process.ptraced"},
		{"security_rule_key_unknown.yaml", inConfig + "'families.security' " + decoding + "'rules.mount' has invalid keys: allowed"},
		{"unknown_nested_key.yaml", inProcess + decoding + "'tapioebpfreceiver.ProcessConfig' has invalid keys: argument_bytes"},
		{"etcd_unknown_key.yaml", inConfig + "'families.etcd' " + decoding + "'watch' has invalid keys: endpoint"},
		{"kubernetes_unknown_key.yaml", inConfig + "'kubernetes' " + decoding + "'tapioebpfreceiver.KubernetesConfig' has invalid keys: lables"},
		{"enabled_not_boolean.yaml", inProcess + "unexpected type string for 'enabled': got 'sometimes' value expected 'true' or 'false'"},
		{"ring_size_nonsense.yaml", inRingSize + `"lots" is not a size such as 8MiB`},
		{"ring_size_fraction.yaml", inRingSize + `"1.5MiB" is not a size such as 8MiB`},
		{"ring_size_beyond_64_bits.yaml", inRingSize + `"18446744073709551615GiB" is not a size such as 8MiB`},
		{"rate_limit_fraction.yaml", decoding + "'' rate_limits::http: 0.5 must be a whole number, and one of 64 bits"},
		{"fractions.yaml", decoding + "'' batch::max_events: 1e+20 must be a whole number, and one of 64 bits\nfamilies::dns::ports::1: 53.5 must be a whole number, and one of 64 bits\nsimulator::pods: 2.5 must be a whole number, and one of 64 bits"},
		{"rate_limit_negative.yaml", inConfig + "'rate_limits.dns' cannot parse value as 'uint64': -1 overflows uint"},
		{"rate_limit_of_cni.yaml", inConfig + "'rate_limits' has invalid keys: cni"},
		{"ring_size_negative.yaml", inRingSize + "cannot parse value as 'tapioebpfreceiver.ByteSize': -1 overflows uint"},
	} {
		t.Run(tt.file, func(t *testing.T) {
			_, err := loadConfig(t, tt.file)
			assert.EqualError(t, err, tt.want)
		})
	}
}

// In a pod whose manifest says so, the node's name need not be configured.
func TestNodeNameFromEnvironment(t *testing.T) {
	t.Setenv("K8S_NODE_NAME", "node-7")
	cfg, err := loadConfig(t, "kubernetes_node_name_none.yaml")
	require.NoError(t, err)
	assert.Equal(t, "node-7", cfg.(*Config).Kubernetes.Get().NodeName)
}

func TestByteSizeString(t *testing.T) {
	for size, want := range map[ByteSize]string{
		0:         "0B",
		1:         "1B",
		1536:      "1536B",
		64 << 10:  "64KiB",
		3 << 20:   "3MiB",
		1 << 30:   "1GiB",
		512 << 20: "512MiB",
	} {
		assert.Equal(t, want, size.String())
	}
}
