#!/usr/bin/env bash
set -euo pipefail
ROOT="$(cd "$(dirname "$0")/.." && pwd)"
OUT="${OUT:-$ROOT/build}"
VERSION="$(git describe --tags --always)"
log() { printf '[%s] %s\n' "$(date +%T)" "$*"; }
log "building $VERSION"
mkdir -p "$OUT"
cd "$ROOT"
if [ ! -d node_modules ]; then
  npm ci --no-audit --no-fund
fi
for target in linux-x64 linux-arm64 darwin-arm64; do
  log "target $target"
  npm run build -- --target "$target" --out "$OUT/$target" 2>&1 | tee "$OUT/$target.log" | grep -i -E 'warn|error' || true
  tar -C "$OUT" -czf "$OUT/app-$VERSION-$target.tar.gz" "$target"
done
find "$OUT" -name '*.tar.gz' -print0 | xargs -0 sha256sum > "$OUT/SHA256SUMS"
case "${1:-}" in
  --upload) aws s3 cp "$OUT" "s3://releases/$VERSION/" --recursive --exclude '*.log' ;;
  --dry) log "dry run" ;;
  *) log "done" ;;
esac
cat > "$OUT/manifest.json" <<JSON
{"version": "$VERSION", "host": "$(hostname)"}
JSON
log "wrote $(wc -l < "$OUT/SHA256SUMS") sums"
