# The fence: nftables rules that hold a guest's bridge to its network policy. One table of our own, made with
# the first lease and removed with the last; a guest reaches neither the rack host nor another guest, ever.

FENCE=compute_bridge

fence_rules() {
    cat <<-RULES
	add table inet $FENCE
	add set inet $FENCE guests { type ifname; }
	add set inet $FENCE isolated { type ifname; }
	add set inet $FENCE denied { type ipv4_addr; flags interval; auto-merge; }
	add set inet $FENCE resolvers { type ipv4_addr; }
	add chain inet $FENCE forward { type filter hook forward priority -10; policy accept; }
	add chain inet $FENCE input { type filter hook input priority -10; policy accept; }
	flush chain inet $FENCE forward
	flush chain inet $FENCE input
	add rule inet $FENCE forward iifname @guests ct state established,related accept
	add rule inet $FENCE forward iifname @isolated drop
	add rule inet $FENCE forward iifname @guests oifname @guests drop
	add rule inet $FENCE forward iifname @guests ip daddr @resolvers udp dport 53 accept
	add rule inet $FENCE forward iifname @guests ip daddr @resolvers tcp dport 53 accept
	add rule inet $FENCE forward iifname @guests ip daddr @denied drop
	add rule inet $FENCE input iifname @guests ct state established,related accept
	add rule inet $FENCE input iifname @guests drop
	RULES
}

# fence_check: say whether this kernel takes the rules, without setting them.
fence_check() {
    command -v nft >/dev/null 2>&1 || { printf 'no nft here: install nftables\n' && return 1; }
    fence_said=$(fence_rules | nft -c -f - 2>&1) && return 0
    printf 'nft refuses our rules: %s\n' "$(printf '%s\n' "$fence_said" | brief)"
    return 1
}

# fence_close BRIDGE POLICY: put a guest's bridge behind the fence, before the guest exists.
fence_close() (
    exec 6>"$STATE/fence.lock"
    flock -w 30 6 || return 1
    {
        fence_rules
        printf 'add element inet %s guests { "%s" }\n' $FENCE "$1"
        [ "$2" != isolated ] || printf 'add element inet %s isolated { "%s" }\n' $FENCE "$1"
        for range in ${req_denied:-}; do
            printf 'add element inet %s denied { %s }\n' $FENCE "$range"
        done
        for resolver in ${req_dns:-}; do
            printf 'add element inet %s resolvers { %s }\n' $FENCE "$resolver"
        done
    } | nft -f -
)

# fence_drop BRIDGE: forget a bridge; with the last one the table goes too.
fence_drop() (
    command -v nft >/dev/null 2>&1 || return 0
    exec 6>"$STATE/fence.lock"
    flock -w 30 6 || return 1
    nft list table inet $FENCE >/dev/null 2>&1 || return 0
    nft "delete element inet $FENCE isolated { \"$1\" }" 2>/dev/null
    nft "delete element inet $FENCE guests { \"$1\" }" 2>/dev/null
    if nft list set inet $FENCE guests | grep -q "\"$1\""; then return 1; fi
    nft list set inet $FENCE guests | grep -q elements || nft delete table inet $FENCE
)
