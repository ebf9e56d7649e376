# Before Envoy ends: new connections go elsewhere, and it waits up to $1 seconds for the streams that it carries.
ask() {
  exec 3<>/dev/tcp/127.0.0.1/9901
  printf '%s %s HTTP/1.1\r\nHost: envoy\r\nConnection: close\r\n\r\n' "$1" "$2" >&3
  cat <&3
  exec 3>&-
}

ask POST '/drain_listeners?graceful' >/dev/null
sleep 5
end=$((SECONDS + $1 - 5))
while ((SECONDS < end)) && ask GET '/stats?filter=rq_active' | grep -Eq '^http\.(inference|store)\.downstream_rq_active: [1-9]'; do
  sleep 1
done
